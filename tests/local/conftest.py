"""The embedded AWS, one per process that runs tests: as the application gets it, and bare.

Tests mostly wait, so several processes run them side by side (`-n`), and none sees what another has made: each has
servers on ports of their own, which end with it, and builds and deploys the application for itself.
"""

import json
from collections.abc import Generator, Iterator

import pytest

from emulator import application
from emulator.application import ROOT, deploy_headgate, deploy_sample
from emulator.server import EmbeddedAws
from tests.local.clients import Aws
from tests.local.commands import Command
from tests.local.deployed import PREFIX, Headgate, Service
from tests.local.servers import merge_used, serving, used_files
from tests.local.triggers import TRIGGERS

FAILED = pytest.StashKey[bool]()
RECORD = ROOT / "tests" / "fixtures" / "used_permissions.json"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that records which permissions Headgate's roles use."""
    parser.addoption("--record-permissions", action="store_true", help=f"write {RECORD.relative_to(ROOT)}")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Forget what earlier sessions have used."""
    if not hasattr(session.config, "workerinput"):
        for file in used_files():
            file.unlink()


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Add what all processes of this session have used to the record, if all tests passed."""
    wanted = session.config.getoption("--record-permissions", default=False)
    if not wanted or hasattr(session.config, "workerinput"):
        return
    if exitstatus:
        session.config.get_terminal_writer().line("\nPermissions are not recorded, because not all tests passed.")
    else:
        # What earlier runs have used stays: which function does some of the work depends on who comes first. A test
        # says what the template no longer allows.
        RECORD.write_text(json.dumps(merge_used([RECORD, *used_files()]), indent=2) + "\n")


@pytest.fixture(scope="session", autouse=True)
def own_builds(worker_id: str) -> Iterator[None]:
    """A folder of this process's own to build in."""
    usual, application.WORK = application.WORK, application.WORK / f"tests-{worker_id}"
    application.WORK.mkdir(parents=True, exist_ok=True)
    yield
    application.WORK = usual


@pytest.fixture(scope="session")
def embedded_aws(own_builds: None) -> Iterator[EmbeddedAws]:
    """AWS on this machine, with the gaps filled."""
    with serving() as embedded:
        yield embedded


@pytest.fixture(scope="session")
def bare_aws() -> Iterator[EmbeddedAws]:
    """MiniStack as it is: to see that a gap is still there."""
    with serving("--bare") as bare:
        yield bare


@pytest.fixture(scope="session")
def headgate(embedded_aws: EmbeddedAws) -> Iterator[Headgate]:
    """The application, built and deployed as a user would."""
    # Old versions by number alone, since nothing here is ever a day old.
    clean = {"CleanVersionsOfFunctions": "outdated-*", "CleanKeepVersions": "2", "CleanOlderThanDays": "0"}
    deployed = Headgate(embedded_aws, deploy_headgate(embedded_aws, Prefix=PREFIX, **clean, **TRIGGERS))
    yield deployed
    deployed.close()


@pytest.fixture(scope="session")
def checkout(headgate: Headgate) -> Service:
    """The sample service, with an alarm on its alias's errors."""
    deploy_sample(headgate.aws, headgate.outputs)
    return Service(headgate, "checkout")


@pytest.fixture(scope="session")
def command(headgate: Headgate) -> Command:
    """The command ``headgate``, which finds the deployed application by its stack's name."""
    return Command(headgate.aws)


@pytest.fixture
def service(headgate: Headgate) -> Service:
    """A service of a test's own: version 1 serves, version 2 is there to be rolled out."""
    return headgate.next_service()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember whether a test has failed, for ``letters_of_a_failed_test``."""
    report = yield
    item.stash[FAILED] = item.stash.get(FAILED, False) or report.failed
    return report


@pytest.fixture(autouse=True)
def letters_of_a_failed_test(request: pytest.FixtureRequest) -> Iterator[None]:
    """Take the letters that a test left because it failed, so that the next tests do not fail for them too."""
    deployed = [name for name in ("headgate", "throttled") if name in request.fixturenames]
    yield
    if request.node.stash.get(FAILED, False):
        for name in deployed:
            request.getfixturevalue(name).forget_letters()


@pytest.fixture
def aws(embedded_aws: EmbeddedAws, request: pytest.FixtureRequest) -> Aws:
    """The embedded AWS, as the application gets it."""
    return Aws(embedded_aws, _prefix(request))


@pytest.fixture
def bare(bare_aws: EmbeddedAws, request: pytest.FixtureRequest) -> Aws:
    """MiniStack without anything of ours."""
    return Aws(bare_aws, _prefix(request))


def _prefix(request: pytest.FixtureRequest) -> str:
    return f"t{abs(hash(request.node.nodeid)) % 10**10}"
