"""The calls that are running in a model, which way each runs, and who is told of them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from types import FrameType
from typing import Any

from torch import Tensor

from infoprobe.directions import Direction
from infoprobe.libraries.log_determinants import LogDeterminant
from infoprobe.taps.arguments import Arguments
from infoprobe.taps.frames import frame_of_call, is_running, running_modules
from infoprobe.taps.sink import TAP, Event, Place, Sink
from infoprobe.torch_internals import in_backward, is_fake, is_traced, outside_of_modes


class Call:
    """One running call.

    Attributes:
        owner: The module or transform that was called.
        path: The owner's name; empty for the model itself.
        direction: The direction in which the call runs.
        run: The pass that it belongs to.
        frame: The frame in which it runs, if a hook tells of its end.
        place: Where its tensors are reported; ``None`` if they are not.
        number: Numbers the calls of this place in this pass and direction, from 0.
        entered: What :meth:`Sink.enter` returned.
    """

    __slots__ = ("direction", "entered", "frame", "number", "owner", "path", "place", "run")

    def __init__(
        self,
        owner: object,
        path: str,
        direction: Direction,
        run: _Run,
        frame: FrameType | None,
    ) -> None:
        self.owner: object = owner
        self.path: str = path
        self.direction: Direction = direction
        self.run: _Run = run
        self.frame: FrameType | None = frame
        self.place: Place | None = None
        self.number: int = 0
        self.entered: Any = None


class _Run:
    """A pass, and how often each place was called in it.

    Attributes:
        token: The object that stands for the pass, as :meth:`Sink.begin` returned it.
        begun: Whether the sink was told that it begins.
    """

    __slots__ = ("_calls", "begun", "token")

    def __init__(self) -> None:
        self.token: Any = None
        self.begun: bool = False
        self._calls: dict[tuple[Place, Direction], int] = {}

    def number(self, place: Place, direction: Direction) -> int:
        """Counts a call of this place, and returns its number."""
        number = self._calls.get((place, direction), 0)
        self._calls[place, direction] = number + 1
        return number


class _Running(threading.local):
    """The probed models that are running in this thread.

    Attributes:
        calls: The calls in each of them.
        unobserved: Whether calls are our own, and do not count.
    """

    def __init__(self) -> None:
        self.calls: list[Calls] = []
        self.unobserved = False


running: _Running = _Running()


@contextlib.contextmanager
def unobserved() -> Iterator[None]:
    """A ``with`` block in which no probe takes note of this thread's calls."""
    before, running.unobserved = running.unobserved, True
    try:
        yield
    finally:
        running.unobserved = before


class _Thread(threading.local):
    """What is running in this thread.

    Attributes:
        stack: The calls, the innermost last.
        repeats: Whether calls repeat earlier ones.
    """

    def __init__(self) -> None:
        self.stack: list[Call] = []
        self.repeats = False


class Calls:
    """Tells a sink of the calls in a model, wherever a tap learns of them.

    The direction of a call is its own, if it has one, or that of the call around it. A pass
    lasts from the beginning of the outermost call until its end. Each thread has passes of its
    own.

    Arguments:
        sink: The sink that is told.
        paths: The names of the modules, empty for the model itself.
        taken: Names that points marked by :func:`tap` must not use.

    Attributes:
        pass_over: Is called at the end of each pass.
    """

    def __init__(self, sink: Sink, paths: Mapping[Any, str], taken: set[str]) -> None:
        self._sink = sink
        self._paths = paths
        self._taken = taken
        self._thread = _Thread()
        self.pass_over: Callable[[], None] = lambda: None

    def enter(
        self,
        owner: object,
        path: str,
        place: Place | None,
        direction: Direction | None,
        inputs: Callable[[], list[Tensor]] | None,
        hooked: bool,
        several: str = "",
        arguments: Callable[[], Arguments] = Arguments.unknown,
    ) -> Call | None:
        """A call begins.

        Arguments:
            owner: The module or transform that is called.
            path: The owner's name; empty for the model itself.
            place: Where its tensors are reported; ``None`` if they are not.
            direction: The direction of the call; ``None`` for that of the call around it.
            inputs: Gives the tensors that go in. ``None`` for a call that is given none, such as
                one that draws samples: its pass begins with the first call in it that has a
                direction of its own, and what goes into that one is the input of the pass.
            hooked: Whether a hook will call :meth:`leave`; hooks are not told of a
                KeyboardInterrupt.
            several: What a reader must know if the pass has several inputs.
            arguments: Gives all that the call is given.

        Returns:
            The call, for :meth:`leave`; ``None`` if the call does not belong to a pass.
        """
        if self._is_repetition():
            return None
        stack = self._stack()
        begins = not stack or direction is not None
        if direction is None:
            direction = stack[-1].direction if stack else "forward"
        tensors: list[Tensor] | None = None
        run = stack[-1].run if stack else _Run()
        if begins and inputs is not None and not run.begun:
            tensors = inputs()
            if any(map(is_fake, tensors)):
                return None
            entrance = (stack[0].path if stack else path) or None
            known = arguments() if self._sink.measures_next else Arguments.unknown()
            run.token = self._sink.begin(tensors, entrance, several, known)
            run.begun = True
        if not stack:
            running.calls.append(self)
        call = Call(owner, path, direction, run, frame_of_call() if hooked else None)
        stack.append(call)
        if place is not None and inputs is not None and run.token is not None:
            call.place = place
            call.number = run.number(place, direction)
            call.entered = self._sink.enter(run.token, inputs() if tensors is None else tensors)
        return call

    def innermost(self) -> object:
        """The owner of the innermost running call; ``None`` if no call is running."""
        return self._thread.stack[-1].owner if self._thread.stack else None

    def running(self, owner: object) -> Call | None:
        """The innermost running call of this owner."""
        if self._is_repetition():
            return None
        for call in reversed(self._thread.stack):
            if call.owner is owner:
                return call
        return None

    @property
    def wants_log_determinants(self) -> bool:
        """Whether layers should be asked for their log|det J|."""
        return self._sink.wants_log_determinants

    @property
    def wants_arguments(self) -> bool:
        """Whether calls must be told with their arguments."""
        return self._sink.wants_arguments

    @property
    def measures_next(self) -> bool:
        """Whether the pass that begins next is measured."""
        return self._sink.measures_next

    def leave_out(self) -> None:
        """Tells of a pass that is over, and that the sink ignores."""
        if not self._is_repetition() and not self._stack():
            self._sink.begin([], None, "", Arguments.unknown())
            self.pass_over()

    def end_all(self) -> None:
        """Ends all calls of this thread, as if they had raised an error."""
        stack = self._thread.stack
        if stack:
            self.leave(stack[0], None)

    def leave(
        self,
        call: Call,
        outputs: list[Tensor] | None,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
        log_determinant: LogDeterminant | None = None,
        returned: Any = None,
    ) -> None:
        """A call ends, and with it all calls that were interrupted inside it.

        Arguments:
            call: The call, as :meth:`enter` returned it.
            outputs: The tensors that it returned; ``None`` if it raised.
            args: The positional arguments of the call.
            kwargs: The keyword arguments of the call.
            log_determinant: What an invertible layer reports of it.
            returned: All that it returned.
        """
        stack = self._thread.stack
        while stack.pop() is not call:
            pass
        try:
            if outputs is not None and call.place is not None:
                event = Event(
                    call.place,
                    call.direction,
                    call.number,
                    outputs,
                    entered=call.entered,
                    module=call.owner,
                    args=args,
                    kwargs=kwargs or {},
                    log_determinant=log_determinant,
                    returned=returned,
                )
                self._sink.exit(call.run.token, event)
        finally:
            if not stack:
                self._end(call.run, completed=outputs is not None)

    def around(
        self,
        owner: object,
        path: str,
        place: Place | None,
        direction: Direction | None,
        inputs: Callable[[], list[Tensor]] | None,
        run: Callable[[], Any],
        outputs: Callable[[Any], list[Tensor]],
        log_determinant: Callable[[Any], LogDeterminant | None],
    ) -> Any:
        """Runs something as a call and returns what it returns.

        Arguments:
            owner: As in :meth:`enter`.
            path: As in :meth:`enter`.
            place: As in :meth:`enter`.
            direction: As in :meth:`enter`.
            inputs: As in :meth:`enter`.
            run: Runs the call.
            outputs: Gives the tensors in what the call returns.
            log_determinant: Gives the log|det J| that the call reports, from what it returns.
        """
        if is_traced():
            return run()
        with outside_of_modes():
            call = self.enter(owner, path, place, direction, inputs, hooked=False)
        tensors: list[Tensor] | None = None
        reported: LogDeterminant | None = None
        try:
            output = run()
            if call is not None and output is not None:
                with outside_of_modes():
                    tensors = outputs(output)
                    reported = log_determinant(output) if self.wants_log_determinants else None
            return output
        finally:
            # It may have been closed meanwhile.
            if call is not None and self.running(owner) is not None:
                with outside_of_modes():
                    self.leave(call, tensors, log_determinant=reported)

    @contextlib.contextmanager
    def repeating(self) -> Iterator[None]:
        """A ``with`` block in which this thread's calls repeat earlier ones and do not count."""
        before, self._thread.repeats = self._thread.repeats, True
        try:
            yield
        finally:
            self._thread.repeats = before

    def _is_repetition(self) -> bool:
        # Activation checkpointing calls layers again in the backward pass.
        return in_backward() or self._thread.repeats or running.unobserved

    def pass_by(self, call: Call, place: Place, tensors: list[Tensor]) -> None:
        """Tensors pass a place that hands them on unchanged, as a call begins or ends."""
        run = call.run
        if run.token is not None:
            number = run.number(place, call.direction)
            entered = self._sink.enter(run.token, tensors)
            event = Event(
                place,
                call.direction,
                number,
                tensors,
                entered=entered,
                unchanged=True,
                log_determinant=LogDeterminant(0.0),
            )
            self._sink.exit(run.token, event)

    def point(self, tensor: Tensor, name: str, in_compiled_code: bool = False) -> None:
        """A tensor passes a point that the user has marked, inside the innermost call.

        In compiled code, that is the innermost one with hooks.
        """
        stack = [] if self._is_repetition() else self._stack()
        if not stack or stack[-1].run.token is None:
            return
        call = stack[-1]
        modules = () if in_compiled_code else running_modules()
        known = (self._paths[m] for m in modules if m in self._paths)
        path = next(known, call.path)  # of the innermost module, whether it has hooks or not
        name = f"{path}.{name}" if path else name
        place = Place(f"{name} (tap)" if name in self._taken else name, TAP)
        number = call.run.number(place, call.direction)
        self._sink.exit(call.run.token, Event(place, call.direction, number, [tensor]))

    def close(self) -> None:
        """Forgets all running calls, and the model."""
        self._thread = _Thread()
        self._paths = {}
        self.pass_over = lambda: None
        if self in running.calls:
            running.calls.remove(self)

    def _stack(self) -> list[Call]:
        """This thread's running calls, without those that a KeyboardInterrupt has ended."""
        stack = self._thread.stack
        while stack and stack[-1].frame is not None and not is_running(stack[-1].frame):
            call = stack.pop()
            if not stack:
                self._end(call.run, completed=False)
        return stack

    def _end(self, run: _Run, *, completed: bool) -> None:
        running.calls.remove(self)
        if run.token is not None:
            self._sink.end(run.token, completed)
        self.pass_over()
