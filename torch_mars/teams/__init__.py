"""One trained team: read from a run, a file, or from those that are installed here as `<task>.pt`.

May import algos/, nn/, run/ and envs/; does not know protocol/.
"""
