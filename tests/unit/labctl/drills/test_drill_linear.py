"""Linearizability of the sequenced records: right histories pass, each wrong one is told, and an oracle agrees."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.drills.linear import Read, Write, violations

Op = Write | Read


def write(key: str, after: str, began: float, ended: float = float("inf"), **more: bool) -> Write:
    return Write(key, after, began, ended, **{"acknowledged": ended < float("inf"), **more})


A, B, C = write("a", "", 0, 1), write("b", "a", 2, 3), write("c", "b", 4, 5)


def test_a_list_that_grows_and_is_read_as_it_grows_is_in_order() -> None:
    assert violations([A, B, C], [Read("a", 1, 1.2, 1.8), Read("b", 2, 2.5, 3.5), Read("a", 1, 1.5, 2.9)]) == []


def test_a_write_without_an_answer_may_have_happened_or_not() -> None:
    unanswered = write("b", "a", 2)
    assert violations([A, unanswered], []) == []
    assert violations([A, unanswered], [Read("b", 2, 9, 10)]) == []
    assert violations([A, unanswered], [Read("a", 1, 9, 10)]) == []
    assert violations([A, unanswered, write("c", "a", 4, 5)], [Read("c", 2, 6, 7)]) == []


@pytest.mark.parametrize(
    ("writes", "reads", "words"),
    [
        ([A, B], [Read("a", 1, 4, 5)], "a read of a began after the write of b had ended"),
        ([A, B], [Read("", 0, 1.5, 1.8)], "a read of nothing began after the write of a"),
        ([A, B, C], [Read("b", 2, 2.5, 2.6), Read("a", 1, 2.7, 2.8)], "a read of a began after a read of b"),
        ([A, write("b", "a", 3, 4)], [Read("b", 2, 1.5, 2)], "the write of b began after a read of b"),
        ([A, write("b", "a", 3)], [Read("b", 2, 1.5, 2)], "the write of b began after a read of b"),
        ([A, write("b", "a", 2, 3), write("c", "a", 4, 5)], [], "b and c both follow a"),
        ([A, write("b", "a", 2), write("c", "a", 4, 5)], [Read("b", 2, 2.5, 3)], "b and c both follow a"),
        ([A], [Read("z", 1, 2, 3)], "z was read, and nobody wrote it"),
        ([A, B], [Read("b", 1, 4, 5)], "found 1 records up to b, where 2 had been written"),
        ([A, write("b", "a", 2, 3, acknowledged=False, refused=True)], [Read("b", 2, 4, 5)], "b was refused"),
        ([A, write("c", "b", 4, 5)], [], "c follows b, which was never there"),
    ],
)  # fmt: skip
def test_each_way_of_not_being_one_list_is_told(writes: list[Write], reads: list[Read], words: str) -> None:
    assert any(words in said for said in violations(writes, reads)), violations(writes, reads)


@st.composite
def lists(draw: st.DrawFn) -> tuple[list[Write], list[Read]]:
    """Operations on one real list: each takes effect at a moment of its own, and lasts from before it to after it."""
    writes, reads = [], []
    state: list[str] = []
    for moment in range(1, draw(st.integers(2, 7))):
        began, ended = moment - draw(st.integers(0, 3)), moment + draw(st.integers(0, 3))
        match draw(st.sampled_from(["write", "write", "read", "unanswered", "vanished"])):
            case "read":
                reads.append(Read(state[-1] if state else "", len(state), began, ended))
            case "vanished":
                writes.append(write(f"k{moment}", state[-1] if state else "", began))
            case kind:
                end = float("inf") if kind == "unanswered" else ended
                writes.append(write(f"k{moment}", state[-1] if state else "", began, end))
                state.append(f"k{moment}")
    return writes, reads


@given(lists())
def test_what_a_real_list_did_is_never_called_wrong(made: tuple[list[Write], list[Read]]) -> None:
    assert violations(*made) == []


@given(lists(), st.data())
def test_a_history_is_called_wrong_exactly_where_no_order_of_its_operations_explains_it(
    made: tuple[list[Write], list[Read]], data: st.DataObject
) -> None:
    writes, reads = made
    ops: list[Op] = [*writes, *reads]
    keys = ["", *(one.key for one in writes)]
    for number in range(len(ops)):  # bend some of them: another moment, another answer, another predecessor
        if data.draw(st.booleans()):
            ops[number] = bent(ops[number], data, keys)
    writes, reads = [one for one in ops if isinstance(one, Write)], [one for one in ops if isinstance(one, Read)]
    assert bool(violations(writes, reads)) != explained(writes, reads)


def bent(op: Op, data: st.DataObject, keys: list[str]) -> Op:
    began = data.draw(st.integers(0, 9))
    ended = began + data.draw(st.integers(0, 4))
    if isinstance(op, Read):
        return Read(data.draw(st.sampled_from(keys)), data.draw(st.integers(0, 3)), began, ended)
    after = data.draw(st.sampled_from([op.after, *(key for key in keys if key < op.key)]))
    return write(op.key, after, began, ended if data.draw(st.booleans()) else float("inf"))


def explained(writes: list[Write], reads: list[Read]) -> bool:
    """The definition: some of the unanswered writes, in some order that time allows, give every answer."""
    sure = [one for one in writes if one.acknowledged]
    doubtful = [one for one in writes if not one.acknowledged]
    for mask in range(2 ** len(doubtful)):
        chosen = [one for bit, one in enumerate(doubtful) if mask >> bit & 1]
        ops: list[Op] = [*sure, *chosen, *reads]
        if _some_order(ops, []):
            return True
    return False


def _some_order(left: list[Op], state: list[str]) -> bool:
    if not left:
        return True
    for number, op in enumerate(left):
        rest = left[:number] + left[number + 1 :]
        if any(other.ended_s < op.began_s for other in rest):
            continue
        last = state[-1] if state else ""
        if isinstance(op, Write):
            if op.after == last and _some_order(rest, [*state, op.key]):
                return True
        elif (op.last, op.count) == (last, len(state)) and _some_order(rest, state):
            return True
    return False
