"""Declared jobs whose arguments are signed or encrypted: what Redis keeps of a declaration does not tell them."""

from __future__ import annotations

import pytest

from redsched import PayloadSecurity
from redsched.client.schedule import draft_of
from redsched.declarations.definition import digest_of, unpack_parts

from .conftest import Apps, at

OLD, NEW = "the first key of the declared jobs, or so", "the second key of the declared jobs, and so on"
PIN = {"name": "job", "interval": 60, "args": [4711]}


@pytest.mark.parametrize("encrypt", [False, True], ids=["signed", "encrypted"])
async def test_arguments_cannot_be_guessed_from_the_digests(apps: Apps, encrypt: bool) -> None:
    kit = await apps.start(PIN, payload_security=PayloadSecurity([OLD], encrypt=encrypt))
    store = await kit.scheduler.store()
    draft, *_ = draft_of(kit.scheduler, store, kit.scheduler.declared[0])
    guess = digest_of(draft.definition.payload)
    shard = store.shard("job")
    fields = await shard.link.command("HGETALL", shard.keys.job("job"))
    known = dict(zip(fields[::2], fields[1::2], strict=True))
    parts = unpack_parts(known[b"parts"])
    assert parts is not None
    assert parts["args"] != guess
    assert len(parts["args"]) == len(guess)
    if encrypt:
        # Without the option the arguments are in the record, for all to read.
        assert known[b"declared"].decode() != draft.digest()


@pytest.mark.parametrize("encrypt", [False, True], ids=["signed", "encrypted"])
async def test_a_new_key_changes_no_argument_and_undoes_no_operator(apps: Apps, encrypt: bool) -> None:
    old = PayloadSecurity([OLD], encrypt=encrypt)
    kit = await apps.start(PIN, {"name": "gone", "interval": 60, "args": [1]}, payload_security=old)
    assert (await kit.scheduler.modify_job("job", args=[1234])).modified == ("args",)
    await kit.scheduler.remove_job("gone")
    both = PayloadSecurity([NEW, OLD], encrypt=encrypt)
    for _ in range(2):
        kit = await apps.restart(PIN, {"name": "gone", "interval": 60, "args": [1]}, payload_security=both)
        view = await kit.scheduler.get_job("job")
        assert view is not None
        assert (view.args, view.modified) == ((1234,), ("args",))
        assert apps.status(kit)["gone"] == "removed"
    renamed = {**PIN, "name": "renamed", "aliases": ["job"]}
    kit = await apps.restart(renamed, payload_security=both)
    view = await kit.scheduler.get_job("renamed")
    assert view is not None
    assert view.args == (1234,)
    kit = await apps.restart({**renamed, "args": [5]}, payload_security=both)
    view = await kit.scheduler.get_job("renamed")
    assert view is not None
    assert (view.args, view.modified, view.next_run_time is not None) == ((5,), (), True)
    assert view.next_run_time is not None
    assert view.next_run_time < at(2)
