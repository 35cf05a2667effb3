"""`TaskQueue` in memory, with visibility time-outs, receive counts, fair groups and redrive."""

from __future__ import annotations

import heapq
import itertools
import threading
from collections import deque
from collections.abc import Mapping, Sequence

from taskfleet.errors import PermanentError, TooLarge
from taskfleet.memory.clock import wait_for_change
from taskfleet.ports import (
    HIGH,
    MESSAGE_MAX_BYTES,
    PRIORITY,
    Clock,
    Message,
    OutgoingMessage,
    QueueDepth,
    TaskQueue,
)


class _Entry:
    """A message with the state of its deliveries. `visible_at` is valid while it is in flight."""

    __slots__ = (
        "attributes",
        "body",
        "group",
        "message_id",
        "receive_count",
        "sent_at",
        "visible_at",
    )

    def __init__(
        self,
        message_id: str,
        body: str,
        group: str | None,
        attributes: Mapping[str, str],
        sent_at: float,
    ) -> None:
        self.message_id = message_id
        self.body = body
        self.group = group
        self.attributes = attributes
        self.sent_at = sent_at
        self.receive_count = 0
        self.visible_at = 0.0


class MemoryQueue:
    """Implements `taskfleet.ports.TaskQueue`. Safe for any number of threads.

    name: name of the queue in error messages.
    dead: the dead-letter queue, if there is one.
    max_receive_count: deliveries of a message, after which it moves to `dead`.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        name: str = "memory queue",
        dead: MemoryQueue | None = None,
        max_receive_count: int = 1_000,
    ) -> None:
        self._clock = clock
        self._name = name
        self._dead = dead
        self._max_receive_count = max_receive_count
        self._ids = itertools.count(1)
        self._changed = threading.Condition(threading.Lock())
        self._ready: dict[str | None, deque[_Entry]] = {}
        self._turns: deque[str | None] = deque()  # groups in `_ready`, next one first
        self._in_flight: dict[str, _Entry] = {}  # by receipt handle
        # Heap of (visible_at, receipt handle). Entries of ended deliveries stay until due.
        self._due: list[tuple[float, str]] = []

    def send(self, messages: Sequence[OutgoingMessage]) -> None:
        for message in messages:
            _check_size(message.body)
        with self._changed:
            now = self._clock.now()
            for message in messages:
                self._add(
                    _Entry(
                        str(next(self._ids)), message.body, message.group, message.attributes, now
                    )
                )
            self._changed.notify(len(messages))

    def receive(self, max_messages: int, *, wait_s: float, visibility_s: float) -> list[Message]:
        deadline = self._clock.now() + wait_s
        with self._changed:
            while True:
                now = self._clock.now()
                self._make_due_visible(now)
                messages = self._take(max_messages, now + visibility_s)
                if messages or now >= deadline:
                    return messages
                wake_at = min(deadline, self._due[0][0]) if self._due else deadline
                wait_for_change(self._clock, self._changed, wake_at - now)

    def change_visibility(self, changes: Sequence[tuple[Message, float]]) -> list[Message]:
        stale = []
        with self._changed:
            now = self._clock.now()
            self._make_due_visible(now)
            for message, seconds in changes:
                entry = self._in_flight.get(message.receipt_handle)
                if entry is None:
                    stale.append(message)
                else:
                    self._hide(entry, message.receipt_handle, now + seconds)
            self._changed.notify(len(changes))
        return stale

    def delete(self, messages: Sequence[Message]) -> None:
        with self._changed:
            self._make_due_visible(self._clock.now())
            for message in messages:
                self._in_flight.pop(message.receipt_handle, None)

    def dead_letter(self, message: Message, reason: str) -> None:
        dead = self._dead_letters()
        with dead._changed:
            now = self._clock.now()
            kept = {PRIORITY: HIGH} if message.high else {}
            attributes = {"reason": reason} | kept
            dead._add(_Entry(str(next(dead._ids)), message.body, None, attributes, now))
            dead._changed.notify()
        self.delete([message])

    def depth(self) -> QueueDepth:
        with self._changed:
            self._make_due_visible(self._clock.now())
            backlog = sum(len(entries) for entries in self._ready.values())
            return QueueDepth(backlog=backlog, in_flight=len(self._in_flight))

    def dead_letters(self) -> TaskQueue:
        return self._dead_letters()

    def _dead_letters(self) -> MemoryQueue:
        if self._dead is None:
            raise PermanentError(f"{self._name} has no dead-letter queue")
        return self._dead

    # The methods below are called with the lock held.

    def _add(self, entry: _Entry) -> None:
        entries = self._ready.get(entry.group)
        if entries is None:
            entries = self._ready[entry.group] = deque()
            self._turns.append(entry.group)
        entries.append(entry)

    def _pop(self) -> _Entry:
        """Remove and return the oldest message of the next group. Groups take turns, so that no
        group delays another."""
        group = self._turns.popleft()
        entries = self._ready[group]
        entry = entries.popleft()
        if entries:
            self._turns.append(group)
        else:
            del self._ready[group]
        return entry

    def _take(self, max_messages: int, visible_at: float) -> list[Message]:
        taken: list[Message] = []
        while self._turns and len(taken) < max_messages:
            entry = self._pop()
            if self._dead is not None and entry.receive_count >= self._max_receive_count:
                with self._dead._changed:
                    self._dead._add(entry)
                    self._dead._changed.notify()
                continue
            entry.receive_count += 1
            handle = f"{entry.message_id}.{entry.receive_count}"
            self._hide(entry, handle, visible_at)
            taken.append(
                Message(
                    entry.message_id,
                    handle,
                    entry.body,
                    entry.receive_count,
                    entry.attributes,
                    entry.sent_at,
                )
            )
        return taken

    def _hide(self, entry: _Entry, handle: str, visible_at: float) -> None:
        entry.visible_at = visible_at
        self._in_flight[handle] = entry
        heapq.heappush(self._due, (visible_at, handle))

    def _make_due_visible(self, now: float) -> None:
        while self._due and self._due[0][0] <= now:
            visible_at, handle = heapq.heappop(self._due)
            entry = self._in_flight.get(handle)
            if entry is not None and entry.visible_at == visible_at:
                del self._in_flight[handle]
                self._add(entry)


def _check_size(body: str) -> None:
    # A character has at most 4 bytes in UTF-8, so short texts need not be encoded.
    if len(body) > MESSAGE_MAX_BYTES // 4 and len(body.encode()) > MESSAGE_MAX_BYTES:
        raise TooLarge(
            f"a message of {len(body.encode())} bytes is over the cap of {MESSAGE_MAX_BYTES} bytes"
        )
