"""Users: what a name and a password may be, and who is kept from being locked out."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from sqlalchemy import Engine, select

from workflows.review.accounts import users
from workflows.review.database import open_engine
from workflows.review.migrate import migrate
from workflows.review.passwords import check_password, hash_password, is_outdated, is_password
from workflows.review.users import add_user, all_users, open_door_reader, set_disabled, set_rights
from wsi.errors import UsageError

PASSWORD = "seven tiny brown owls"


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_engine(f"sqlite:///{tmp_path / 'review.sqlite'}")
    migrate(engine)
    yield engine
    engine.dispose()


class TestPasswords:
    def test_are_kept_as_argon2id_with_a_salt_of_their_own(self) -> None:
        one, other = hash_password(PASSWORD), hash_password(PASSWORD)
        assert one != other
        assert one.startswith("$argon2id$v=19$")
        assert PasswordHasher().verify(one, PASSWORD), "another program could not check it"
        assert is_password(PASSWORD, one)
        assert not is_password(PASSWORD + " ", one)
        assert not is_password("", one)

    def test_nobodys_password_is_never_right(self) -> None:
        assert not is_password("the password of nobody", None)
        assert not is_password(PASSWORD, "not a hash")

    def test_however_a_keyboard_composes_a_letter(self) -> None:
        assert is_password("caf\u00e9 au lait 12", hash_password("cafe\u0301 au lait 12"))

    @pytest.mark.parametrize("password", ["", "short", "a" * 12, "ababababababab", "x" * 257, "Grey.The.Reader"])
    def test_refused(self, password: str) -> None:
        with pytest.raises(UsageError, match="password"):
            check_password(password, "grey.the.reader")

    def test_a_hash_of_weaker_parameters_is_outdated(self) -> None:
        assert is_outdated(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD))
        assert not is_outdated(hash_password(PASSWORD))


class TestNames:
    def test_are_small_letters(self, engine: Engine) -> None:
        add_user(engine, " Grey ", "reader", PASSWORD)
        assert [user.name for user in all_users(engine)] == ["grey"]
        with pytest.raises(UsageError, match="already"):
            add_user(engine, "GREY", "admin", PASSWORD)

    @pytest.mark.parametrize(
        "name", ["", "a b", "<script>", "../x", "a\nb", "\u0430dmin", "x" * 65, "not signed in: grey", "-x"]
    )
    def test_refused(self, engine: Engine, name: str) -> None:
        with pytest.raises(UsageError):
            add_user(engine, name, "reader", PASSWORD)
        assert all_users(engine) == []

    @pytest.mark.parametrize("full_name", ["a\u202eb", "x" * 201, "a\x00b"])
    def test_a_full_name_is_one_line_of_printable_signs(self, engine: Engine, full_name: str) -> None:
        with pytest.raises(UsageError, match="printable"):
            add_user(engine, "grey", "reader", PASSWORD, full_name)

    def test_of_any_script(self, engine: Engine) -> None:
        add_user(engine, "grey", "reader", PASSWORD, " Dr. 山田  Åsa ")
        assert all_users(engine)[0].full_name == "Dr. 山田 Åsa"


def test_no_such_role(engine: Engine) -> None:
    with pytest.raises(UsageError, match="reader, reviewer, admin"):
        add_user(engine, "grey", "owner", PASSWORD)  # type: ignore[arg-type]


def test_the_last_admin_stays(engine: Engine) -> None:
    add_user(engine, "root", "admin", PASSWORD)
    add_user(engine, "grey", "reader", PASSWORD)
    for change in (lambda: set_disabled(engine, "root", True), lambda: set_rights(engine, "root", "reader", None)):
        with pytest.raises(UsageError, match="last admin"):
            change()
    set_rights(engine, "grey", "admin", True)
    set_disabled(engine, "root", True)
    assert {user.name: (user.role, user.disabled, user.sees_patients) for user in all_users(engine)} == {
        "grey": ("admin", False, True),
        "root": ("admin", True, False),
    }


def test_the_reader_of_an_open_door_is_one_and_cannot_sign_in(engine: Engine) -> None:
    first = open_door_reader(engine, "Dr. Ann Grey")
    assert open_door_reader(engine, "Dr. Ann Grey") == first
    assert open_door_reader(engine, "Dr. Bo Brown").user_id != first.user_id
    assert all_users(engine) == []
    with engine.connect() as connection:
        assert connection.scalars(select(users.c.password_hash)).all() == [None, None]


def test_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'review' / 'review.sqlite'}")
    migrate(engine)
    assert (tmp_path / "review" / "review.sqlite").stat().st_mode & 0o777 == 0o600
    engine.dispose()
