import threading

import pytest

from uga.background import Background


@pytest.mark.parametrize("at_once", [False, True])
def test_calls_are_done_in_their_order_and_all_at_the_end(at_once):
    done, threads = [], set()

    def work(number):
        done.append(number)
        threads.add(threading.current_thread())

    with Background("work", at_once=at_once) as background:
        for number in range(50):
            background.call(lambda number=number: work(number))
            assert len(done) >= number  # at most one behind
    assert done == list(range(50))
    assert len(threads) == 1
    assert (threads == {threading.current_thread()}) is at_once


def test_the_caller_goes_on_meanwhile():
    gone_on = threading.Event()
    with Background("work") as background:
        background.call(lambda: gone_on.wait(10) or pytest.fail("the caller was kept"))
        gone_on.set()
        background.wait()


def fail():
    raise ValueError("no")


def give_up(background):
    background.call(fail)
    raise KeyError


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize(
    "then",
    [Background.wait, lambda background: background.call(fail), lambda _: None],
    ids=["wait", "call", "leave"],
)
def test_what_goes_wrong_is_raised(at_once, then):
    def use():
        with Background("work", at_once=at_once) as background:
            background.call(fail)
            then(background)

    with pytest.raises(ValueError, match="no"):
        use()


def test_nothing_is_done_after_what_went_wrong():
    done = []
    background = Background("work")
    background.call(fail)
    with pytest.raises(ValueError, match="no"):
        background.call(lambda: done.append(1))
    assert not done


def test_another_error_of_the_caller_is_not_hidden():
    with pytest.raises(KeyError), Background("work") as background:
        give_up(background)
