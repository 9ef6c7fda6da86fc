"""The pool of threads: results in order, errors, tasks within tasks, gradients, forked processes."""

import multiprocessing
import threading

import numpy as np
import pytest
import torch

from torch_mars.envs import pool


@pytest.fixture(params=[1, 2, 3])
def threads(request):
    before = pool.num_threads()
    pool.set_num_threads(request.param)
    yield request.param
    pool.set_num_threads(before)


def test_results_are_in_the_order_of_the_tasks(threads):
    assert pool.run([lambda i=i: i * i for i in range(50)]) == [i * i for i in range(50)]
    assert pool.run([]) == []


def test_as_many_threads_work_as_asked(threads):
    everybody = threading.Barrier(threads, timeout=30)  # broken, unless all tasks run at once
    names = pool.run([lambda: everybody.wait() is not None and threading.current_thread().name] * threads)
    assert len(set(names)) == threads


def test_a_task_within_a_task_is_worked_off_where_it_is(threads):
    def outer():
        here = threading.current_thread().name
        return here, pool.run([lambda: threading.current_thread().name] * 3)

    for here, inner in pool.run([outer] * 4):
        assert inner == [here] * 3


def test_operations_in_a_task_are_single_threaded(threads):
    torch.set_num_threads(1)
    everybody = threading.Barrier(threads, timeout=30)
    assert pool.run([lambda: everybody.wait() * 0 + torch.get_num_threads()] * threads) == [1] * threads


def test_gradients_are_recorded_where_they_are_outside(threads):
    x = torch.ones(3, requires_grad=True)
    assert all(y.requires_grad for y in pool.run([lambda: 2 * x] * 8))
    with torch.no_grad():
        assert not any(y.requires_grad for y in pool.run([lambda: 2 * x] * 8))


def test_an_error_in_a_task_is_raised_and_the_pool_goes_on(threads):
    def fail():
        raise ValueError("task 3")

    with pytest.raises(ValueError, match="task 3"):
        pool.run([int, int, int, fail, int])
    assert pool.run([int] * 5) == [0] * 5


def test_blocks_cover_all_environments_once(threads):
    seen = np.zeros(10, np.int64)

    def loop(first, last, seen):
        seen[first:last] += 1
        return first, last

    assert pool.in_blocks(loop, 10, 4, seen) == [(0, 4), (4, 8), (8, 10)]
    assert seen.tolist() == [1] * 10


def _in_child(answer):
    answer.put(pool.run([lambda i=i: i for i in range(4)]))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork on this system")
def test_a_forked_process_has_a_pool_of_its_own(threads):
    pool.run([int] * 4)
    context = multiprocessing.get_context("fork")
    answer = context.SimpleQueue()
    child = context.Process(target=_in_child, args=(answer,))
    child.start()
    child.join(30)
    assert child.exitcode == 0 and answer.get() == [0, 1, 2, 3]
