"""What the person asks of W&B, read without its client: modes, keys, names; wrong values are refused at the door."""

import pytest
from training import ROOT

from addnorm_exp import cli
from addnorm_exp.errors import UserError
from addnorm_exp.runs.mirror.settings import Place, ask_for_server, check_place, has_key, mode_of, patience

KEY = "0123456789" * 4


@pytest.fixture(autouse=True)
def _alone(home, monkeypatch):
    """No settings of the person's, in a folder of the test's."""
    (home / "here").mkdir()
    monkeypatch.chdir(home / "here")
    monkeypatch.delenv("WANDB_FINISH_TIMEOUT")


@pytest.mark.parametrize(
    ("flag", "variable", "key", "expected"),
    [
        (None, "", "", "later"),
        (None, "", KEY, "online"),
        (None, "online", KEY, "online"),
        (None, "run", KEY, "online"),
        (None, "OFFLINE", KEY, "offline"),
        (None, "dryrun", "", "offline"),
        ("online", "disabled", KEY, "online"),
        ("offline", "nonsense", "", "offline"),
        (None, "disabled", KEY, "disabled"),
    ],
)
def test_the_flag_goes_before_the_variable_and_a_key_decides_the_rest(flag, variable, key, expected, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", variable)
    monkeypatch.setenv("WANDB_API_KEY", key)
    assert mode_of(flag) == expected


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("WANDB_MODE", "ofline", "WANDB_MODE=ofline: unknown mode; did you mean 'offline'?"),
        ("WANDB_MODE", "shared", "WANDB_MODE=shared: unknown mode; "),
        ("WANDB_MODE", "online", "WANDB_MODE=online: there is no W&B API key; "),
        ("WANDB_BASE_URL", "example.org", "WANDB_BASE_URL=example.org: this is not an address; "),
        ("WANDB_BASE_URL", "http://", "this is not an address; "),
        ("WANDB_BASE_URL", "https://example.org:port", "this is not an address; "),
        ("WANDB_BASE_URL", "https://wandb.ai", "is W&B's website; "),
        ("WANDB_API_KEY", "short", "WANDB_API_KEY: this is not an API key "),
        (
            "WANDB_FINISH_TIMEOUT",
            "1 min",
            "WANDB_FINISH_TIMEOUT=1 min: expected a number of seconds, e.g. WANDB_FINISH_TIMEOUT=60",
        ),
        ("WANDB_INIT_TIMEOUT", "-1", "expected a number of seconds"),
        ("WANDB_INIT_TIMEOUT", "nan", "expected a number of seconds"),
    ],
)
def test_a_value_that_means_nothing_is_one_line_before_training(name, value, words, home, monkeypatch, capsys):
    monkeypatch.setenv(name, value)
    config = f"--config={ROOT / 'configs' / 'lm.py'}"
    assert cli.main(["train", config, f"--config.data.path={home / 'text'}", f"--workdir={home / 'run'}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
    assert not (home / "run").exists()
    assert KEY not in line


def test_a_name_that_wandb_refuses(monkeypatch):
    for place, source in ((Place("a/b"), "--wandb_project=a/b"), (Place("a", "b:c"), "--wandb_entity=b:c")):
        with pytest.raises(UserError, match=f"{source}: W&B refuses"):
            check_place(place)
    monkeypatch.setenv("WANDB_PROJECT", "x" * 129)
    with pytest.raises(UserError, match=r"WANDB_PROJECT=x+…: W&B refuses names of more than 128 characters"):
        check_place(Place())
    monkeypatch.delenv("WANDB_PROJECT")
    check_place(Place("an ablation, 2nd"))


def test_a_mode_that_the_client_was_told_for_this_folder(home):
    """`wandb offline` and `wandb disabled` write it there."""
    (home / "here" / "wandb").mkdir()
    (home / "here" / "wandb" / "settings").write_text("[default]\nmode = offline\n")
    assert mode_of(None) == "offline"
    assert mode_of("disabled") == "disabled"
    (home / "here" / "wandb" / "settings").write_text("mode = broken")
    assert mode_of(None) == "later"


NETRC = "machine {host}\n  login user\n  password {key}\n"


@pytest.mark.parametrize(
    ("variables", "netrc", "expected"),
    [
        ({}, "", False),
        ({"WANDB_API_KEY": KEY}, "", True),
        ({"WANDB_API_KEY": f"local-{KEY}"}, "", True),
        ({"WANDB_API_KEY": "a.b-c.d_e"}, "", True),  # a JSON web token
        ({}, NETRC.format(host="api.wandb.ai", key=KEY), True),
        ({}, NETRC.format(host="example.org", key=KEY), False),
        ({"WANDB_BASE_URL": "https://example.org"}, NETRC.format(host="example.org", key=KEY), True),
        ({"WANDB_BASE_URL": "http://example.org:8080"}, NETRC.format(host="example.org:8080", key=KEY), True),
        ({"WANDB_BASE_URL": "https://example.org"}, NETRC.format(host="api.wandb.ai", key=KEY), False),
        ({}, "default\n  login user\n  password " + KEY + "\n", True),
        ({}, "machine", False),
    ],
)
def test_whether_there_is_a_key_is_as_the_client_finds_it(variables, netrc, expected, home, monkeypatch):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    if netrc:
        (home / "netrc").write_text(netrc)
        monkeypatch.setenv("NETRC", str(home / "netrc"))
    assert has_key() == expected
    from wandb.sdk.lib import wbauth

    host = variables.get("WANDB_BASE_URL", "https://api.forge.coreweave.com")
    theirs = wbauth.authenticate_session(host=host, source="test", prompt=False, update_session=False)
    assert (theirs is not None) == expected


def test_a_password_that_is_no_key_is_none(home, monkeypatch):
    """A netrc file has logins of other services."""
    (home / "netrc").write_text("default\n  login user\n  password secret\n")
    monkeypatch.setenv("NETRC", str(home / "netrc"))
    assert mode_of(None) == "later"


def test_what_needs_the_server_says_that_there_is_no_key(home, capsys):
    with pytest.raises(UserError, match=r"^sync: there is no W&B API key; set WANDB_API_KEY, or run `wandb login`$"):
        ask_for_server("sync")
    assert cli.main(["table", "--from=wandb:lab/addnorm_exp"]) == 2
    assert "--from=wandb:lab/addnorm_exp: there is no W&B API key" in capsys.readouterr().err


def test_where_runs_go(monkeypatch):
    """As the flags say, else the variables, else where the run is already."""
    ledger = {"project": "former", "entity": "team"}
    assert Place().of({}) == ("addnorm_exp", None)
    assert Place().of(ledger) == ("former", "team")
    monkeypatch.setenv("WANDB_PROJECT", "named")
    assert Place().of(ledger) == ("named", "team")
    assert Place("typed", "me").of(ledger) == ("typed", "me")


def test_time_outs_are_the_clients_own(monkeypatch):
    assert (patience("WANDB_INIT_TIMEOUT"), patience("WANDB_FINISH_TIMEOUT")) == (20.0, 60.0)
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "2.5")
    assert patience("WANDB_INIT_TIMEOUT") == 2.5
