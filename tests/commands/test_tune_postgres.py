"""A study in a real PostgreSQL server: workers share it, one is killed, the server goes away and comes back."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import optuna
import pytest
import tune_processes

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")]
PASSWORD = "a-secret"


def program(name):
    """The path of one of PostgreSQL's programs, None where there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return shutil.which(name) or (str(found[-1]) if found else None)


class Server:
    """One of this test's own, in a folder and on a port that nobody else has. It does not run as root."""

    def __init__(self, folder, user):
        self.folder, self.owner = folder, {"user": user, "group": user, "extra_groups": []} if user else {}
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self.port = found.getsockname()[1]
        (folder / "password").write_text(PASSWORD)
        if user:
            for path in (folder, folder / "password"):
                shutil.chown(path, user)
        self._run("initdb", "-D", "data", "-U", "tuning", "-A", "scram-sha-256", "--pwfile=password")
        self.start()

    def _run(self, name, *arguments):
        done = subprocess.run([program(name), *arguments], cwd=self.folder, stdin=subprocess.DEVNULL, timeout=120,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **self.owner)  # fmt: skip
        assert done.returncode == 0, done.stdout.decode(errors="replace")

    def start(self):
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -k {self.folder}"
        # its output is a file, as a pipe would stay open as long as the server lives
        self._run("pg_ctl", "-D", "data", "-w", "-l", "server.log", "-o", options, "start")

    def stop(self):
        self._run("pg_ctl", "-D", "data", "-w", "-m", "immediate", "stop")

    def url(self, password=PASSWORD, database="postgres"):
        return f"postgresql://tuning:{password}@127.0.0.1:{self.port}/{database}"


@pytest.fixture
def server():
    pytest.importorskip("psycopg2")
    if not (program("initdb") and program("pg_ctl")):
        pytest.skip("there is no PostgreSQL server (initdb, pg_ctl) on this machine")
    user = None
    if os.geteuid() == 0:  # PostgreSQL refuses root
        import pwd

        user = next(
            (name for name in ("postgres", "nobody") if name in {entry.pw_name for entry in pwd.getpwall()}), ""
        )
        if not user:
            pytest.skip("PostgreSQL refuses root, and there is no other user")
    folder = Path(tempfile.mkdtemp(prefix="torch_mars_pg_"))
    made = Server(folder, user)
    yield made
    if (folder / "data/postmaster.pid").exists():
        made.stop()
    shutil.rmtree(folder, ignore_errors=True)


def study_in(server):
    (study,) = optuna.get_all_study_summaries(storage=server.url().replace("postgresql:", "postgresql+psycopg2:"))
    return optuna.load_study(study_name=study.study_name, storage=server.url().replace("ql:", "ql+psycopg2:"))


def test_two_commands_share_a_study_and_one_ends_what_the_other_left(server, tmp_path):
    line = ["--trials", "4", "--storage", server.url()]
    workers = [tune_processes.start(tmp_path, *line) for _ in range(2)]  # both make the tables
    tune_processes.until(lambda: len(tune_processes.runs(tmp_path)) >= 2, tmp_path)
    os.kill(workers[0].pid, signal.SIGKILL)
    workers[0].wait()
    assert tune_processes.end(workers[1], tmp_path) == 0, (tmp_path / "said").read_text()
    trials = study_in(server).get_trials()
    states = [trial.state.name for trial in trials]
    assert states.count("FAIL") == 1 and states.count("COMPLETE") + states.count("PRUNED") == 4
    places = {trial.user_attrs["worker"][-1] for trial in trials}
    assert places == {worker.pid for worker in workers}
    assert len(tune_processes.runs(tmp_path)) == 4 * 2
    said = (tmp_path / "said").read_text()
    assert PASSWORD not in said and "tuning:***@" in said


def test_a_server_that_stops_costs_no_training_and_the_same_line_goes_on(server, tmp_path):
    line = ["--trials", "3", "--storage", server.url()]
    command = tune_processes.start(tmp_path, *line)
    tune_processes.until(lambda: tune_processes.runs(tmp_path), tmp_path)
    server.stop()
    assert tune_processes.end(command, tmp_path) == 1
    said = (tmp_path / "said").read_text()
    assert "does not answer" in said and "the same command goes on" in said and "Traceback" not in said
    refused = tune_processes.start(tmp_path, *line)
    assert tune_processes.end(refused, tmp_path) == 2
    server.start()
    assert tune_processes.end(tune_processes.start(tmp_path, *line), tmp_path) == 0
    assert len(tune_processes.runs(tmp_path)) == 3 * 2
    assert PASSWORD not in (tmp_path / "said").read_text()


def test_a_wrong_password_and_a_missing_database_are_one_sentence(server, tmp_path):
    for address, problem in (
        (server.url(password="wrong-one"), "password authentication failed"),
        (server.url(database="nowhere"), 'database "nowhere" does not exist'),
    ):
        assert tune_processes.end(tune_processes.start(tmp_path, "--storage", address), tmp_path) == 2
        said = (tmp_path / "said").read_text().splitlines()[-1]
        assert said.startswith("tune: --storage is") and problem in said
    said = (tmp_path / "said").read_text()
    assert PASSWORD not in said and "wrong-one" not in said and len(said.splitlines()) == 2
