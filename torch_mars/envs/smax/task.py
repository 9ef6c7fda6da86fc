TITLE = "SMAX"
TASKS = {
    "smax_2s3z": {"scenario": "2s3z"},
    "smax_3s5z": {"scenario": "3s5z"},
    "smax_3s_vs_5z": {"scenario": "3s_vs_5z"},
    "smax_5m_vs_6m": {"scenario": "5m_vs_6m"},
    "smax_6h_vs_8z": {"scenario": "6h_vs_8z"},
    "smax_10m_vs_11m": {"scenario": "10m_vs_11m"},
    "smax_3s5z_vs_3s6z": {"scenario": "3s5z_vs_3s6z"},
    "smax_27m_vs_30m": {"scenario": "27m_vs_30m"},
    "smax_smacv2_5_units": {"scenario": "smacv2_5_units"},
    "smax_smacv2_10_units": {"scenario": "smacv2_10_units"},
    "smax_smacv2_20_units": {"scenario": "smacv2_20_units"},
}
EXTENSIONS = {}
