TITLE = "AeroJAX"
TASKS = {
    "aerojax_2v2": {"n_allies": 2, "n_enemies": 2},
    "aerojax_3v3": {"n_allies": 3, "n_enemies": 3},
    "aerojax_5v5": {"n_allies": 5, "n_enemies": 5},
    "aerojax_8v8": {"n_allies": 8, "n_enemies": 8},
}
EXTENSIONS = {
    "aerojax_5v5_mixed": {"n_allies": 5, "n_enemies": 5, "ally_types": (1, 2, 3, 4, 0), "enemy_types": (1, 2, 3, 4, 0)},
    "aerojax_16v16": {"n_allies": 16, "n_enemies": 16, "half_size": 3000.0},
}
BUDGET = 3
