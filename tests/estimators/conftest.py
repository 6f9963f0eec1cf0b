import contextlib

import pytest

from infoprobe.estimators import training


@pytest.fixture
def bars(monkeypatch):
    """The progress bars that training showed: their lengths, names and steps."""

    class Bar:
        steps, closed, postfix = 0, False, None

        def update(self):
            self.steps += 1

        def set_postfix(self, **postfix):
            assert set(postfix) == {"score", "best"}
            self.postfix = postfix

    made = []

    @contextlib.contextmanager
    def progress_bar(total, name, *, shown):
        bar = Bar()
        bar.total, bar.name = total, name
        if shown:
            made.append(bar)
        try:
            yield bar
        finally:
            bar.closed = True

    monkeypatch.setattr(training, "progress_bar", progress_bar)
    return made
