"""Ports that fail at chosen calls, for tests of what is cut short and done again."""

from taskfleet.errors import TransientError


class Outage:
    """Wraps ports. `at` maps the number of a call, from 1 over all of them, to whether it took
    effect before it raised TransientError, as when a reply is lost, or not."""

    def __init__(self, at=None):
        self.calls = 0
        self.at = at or {}

    def wrap(self, port):
        return _Flaky(port, self)

    def around(self, call, *args, **kwargs):
        self.calls += 1
        took_effect = self.at.get(self.calls)
        if took_effect is False:
            raise TransientError("no answer")
        answer = call(*args, **kwargs)
        if took_effect:
            raise TransientError("the answer was lost")
        return answer


class _Flaky:
    def __init__(self, port, outage):
        self._port, self._outage = port, outage

    def __getattr__(self, name):
        method = getattr(self._port, name)
        if name == "paces":  # asked before anything is done, and not worth a number
            return method
        return lambda *args, **kwargs: self._outage.around(method, *args, **kwargs)


class OneByOne:
    """A queue whose sending may be cut short between two messages, as calls of ten are."""

    def __init__(self, queue, outage):
        self._queue, self._outage = queue, outage

    def send(self, messages):
        for message in messages:
            self._outage.around(self._queue.send, [message])
