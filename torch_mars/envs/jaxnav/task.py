TITLE = "JaxNav"
TASKS = {
    "jaxnav_7x7x2a": {"map_size": 7, "num_agents": 2},
    "jaxnav_9x9x3a": {"map_size": 9, "num_agents": 3},
    "jaxnav_11x11x4a": {"map_size": 11, "num_agents": 4},
    "jaxnav_13x13x5a": {"map_size": 13, "num_agents": 5},
}
EXTENSIONS = {}
BUDGET = 3
import re


def other_task(name):
    m = re.fullmatch(r"jaxnav_([1-9][0-9]*)x\1x([1-9][0-9]*)a", name)
    return {"map_size": int(m[1]), "num_agents": int(m[2])} if m else None
