"""The paper's protocol: many runs, what they are of, and the tables and figures that compare them.

May import algos/, nn/, run/ and envs/; does not know teams/.
"""
