TITLE = "PaxMen"
TASKS = {"paxmen_4a": {"num_agents": 4}, "paxmen_5a": {"num_agents": 5}, "paxmen_6a": {"num_agents": 6}}
EXTENSIONS = {}
