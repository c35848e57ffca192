from __future__ import annotations

import pytest


@pytest.fixture(params=["maildir", "mbox"])
def mailbox_format(request: pytest.FixtureRequest) -> str:
    return str(request.param)
