"""Ports that fail at chosen calls, for tests of work that is interrupted and repeated."""

from taskfleet.errors import TransientError


class Outage:
    """Makes calls of wrapped ports fail.

    at: maps the number of a call, counted from 1 over all ports, to True if the call takes effect
        before it raises TransientError, as when a reply is lost, or to False if it does not.
    """

    def __init__(self, at=None):
        self.calls = 0
        self.at = at or {}

    def wrap(self, port):
        """Returns the port with its calls subject to this outage."""
        return _Flaky(port, self)

    def around(self, call, *args, **kwargs):
        """Count one call and make it, unless it is one that fails."""
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
        if name == "paces":  # a read before anything is done; it is not counted
            return method
        return lambda *args, **kwargs: self._outage.around(method, *args, **kwargs)


class OneByOne:
    """A queue that sends messages one by one, so that sending can fail between two of them."""

    def __init__(self, queue, outage):
        self._queue, self._outage = queue, outage

    def send(self, messages):
        for message in messages:
            self._outage.around(self._queue.send, [message])
