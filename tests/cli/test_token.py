"""Does `nas token` let in whom it should, and show a secret once?"""

from pathlib import Path

import pytest

from nas.run.workspace import workspace
from nas.store.serving_sql import ServingSqlStore
from tests.cli.terminal import nas, refused


def test_the_secret_is_all_that_standard_output_has(tmp_path: Path) -> None:
    home = ("--home", tmp_path / "home")
    said = nas("token", "create", "alice", "--scope", "read", "--scope", "submit", *home)
    assert said.code == 0
    secret = said.out.removesuffix("\n")
    assert secret.startswith("etnas_")
    assert secret.split() == [secret]
    assert said.err == (
        "token alice for read, submit, until it is revoked; it is shown this once\n"
    )
    store = ServingSqlStore(workspace(tmp_path / "home").record_url)
    found = store.find_token(secret)
    assert found is not None
    assert (found.name, found.scopes, found.expires) == ("alice", ("read", "submit"), None)
    store.close()
    # Nothing that is kept or shown later holds it.
    for path in (tmp_path / "home").rglob("*"):
        assert secret.encode() not in path.read_bytes()
    assert secret not in nas("token", "list", *home).out + nas("token", "list", "--json", *home).out


def test_tokens_are_listed_and_revoked(tmp_path: Path) -> None:
    home = ("--home", tmp_path / "home")
    assert nas("token", "list", *home).out.startswith("no token yet")
    assert nas("token", "list", "--json", *home).json == []
    refused(nas("token", "revoke", "alice", *home), "alice", "no record")
    assert not (tmp_path / "home").exists()
    secret = nas("token", "create", "alice", "--scope", "admin", "--days", 30, *home).out.strip()
    nas("token", "create", "bob", "--scope", "read", *home)
    first, second = nas("token", "list", "--json", *home).json
    assert (first["name"], first["scopes"], first["state"]) == ("alice", ["admin"], "valid")
    assert first["created"] < first["expires"]
    assert second["expires"] is None
    said = nas("token", "revoke", "alice", *home)
    assert said.out == f"token alice ({first['id']}) is revoked\n"
    assert [each["state"] for each in nas("token", "list", "--json", *home).json] == [
        "revoked",
        "valid",
    ]
    store = ServingSqlStore(workspace(tmp_path / "home").record_url)
    assert store.find_token(secret) is None
    store.close()
    # The name is free again, and each is told by its id.
    nas("token", "create", "alice", "--scope", "read", *home)
    rows = nas("token", "list", *home).out
    assert [rows.count(word) for word in ("alice", "bob", "revoked", "valid")] == [2, 1, 1, 2]
    assert nas("token", "revoke", second["id"], *home).out.startswith("token bob")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["create", "alice"], ["--scope"]),
        (["create", "--scope", "read"], ["Missing argument"]),
        (["create", "alice", "--scope", "all"], ["all", "read, submit, admin"]),
        (["create", "a b", "--scope", "read"], ["a b", "letters"]),
        (["create", "alice", "--scope", "read", "--days", "0"], ["--days"]),
        (["create", "alice", "--scope", "read", "--days", "1000000"], ["--days"]),
        (["create", "alice", "--scope", "read", "--days", "soon"], ["--days", "integer"]),
        (["create", "there", "--scope", "read"], ["there", "revoke it first"]),
        (["revoke", "nobody"], ["nobody", "there"]),
    ],
)
def test_what_is_wrong_is_told_in_a_line(
    tmp_path: Path, arguments: list[str], words: list[str]
) -> None:
    home = ("--home", tmp_path / "home")
    nas("token", "create", "there", "--scope", "read", *home)
    refused(nas("token", *arguments, *home), *words)
    assert [each["name"] for each in nas("token", "list", "--json", *home).json] == ["there"]
