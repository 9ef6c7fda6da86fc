TITLE = "MPE"
TASKS = {
    "simple_spread_3ag": {"num_agents": 3},
    "simple_spread_5ag": {"num_agents": 5},
    "simple_spread_10ag": {"num_agents": 10},
}
EXTENSIONS = {}
