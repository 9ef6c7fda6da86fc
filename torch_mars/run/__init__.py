"""One training on disk and on the screen, and the manners of all commands.

Nothing here knows a method or a network. May import envs/.
"""
