"""The replay buffer: what is held of a body, and when no more."""

from twisted_lb.net.replay import Replay


def test_pieces_are_held_in_order():
    replay = Replay(10)
    for piece in (b"one", b"two"):
        replay.keep(piece)
    assert (replay.pieces, replay.bytes, replay.full, replay.dropped) == ([b"one", b"two"], 6, False, False)


def test_as_much_as_may_be_held_is_not_too_much():
    replay = Replay(3)
    replay.keep(b"one")
    assert not replay.full
    replay.keep(b"!")
    assert replay.full


def test_where_nothing_may_be_held_the_first_byte_is_too_much():
    replay = Replay(0)
    assert not replay.full
    replay.keep(b"!")
    assert replay.full


def test_dropped_it_holds_nothing_and_takes_nothing_more():
    replay = Replay(10)
    replay.keep(b"one")
    replay.drop()
    replay.keep(b"two")
    assert (replay.pieces, replay.dropped) == ([], True)
