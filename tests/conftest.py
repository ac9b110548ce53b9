"""What all tests share: Ctrl-C reaches them, also where they were started in the background."""

import signal

import pytest

# A shell starts background jobs with SIGINT ignored, and those would hand that on.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def cache_of_their_own(tmp_path_factory):
    """Tests keep code in a folder of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHAINRULE_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield
