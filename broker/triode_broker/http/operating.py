"""Operating: the one place where a request becomes an administration call, and where it is decided who may.

Knows calls by their names and as functions, not what they do. Who asks is a visitor like any other, so expiry,
revocation, quotas and rates are those of every client; the right is `operate`, whose filters match the names of
calls. The surprising decision: an identity of a tenant does not choose whom it asks about. The tenant of its call
is its own, and calls that know no tenant are not for it: so nothing has to be filtered out of answers.
"""

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

import attrs
import msgspec
import trio
from triode_protocol.codec import Refused
from triode_protocol.errors import ErrorName

from triode_broker.admin.listener import BadCall, Missing, Unable, note
from triode_broker.core.errors import Disconnect
from triode_broker.core.rights import Rights
from triode_broker.core.session import Session
from triode_broker.http.exchange import NOT_FOUND, OWN_SITE, Answer, Problem, Request
from triode_broker.http.operations import Asked
from triode_broker.http.visitor import problem_of_close
from triode_broker.this_machine import is_this_machine

#: Headers of a request that somebody has passed on.
_PASSED_ON: Final = (
    *(b"forwarded", b"via", b"x-real-ip"),
    *(b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto"),
)
_OPEN: Final = "open"  # the method of those whom nobody asked who they are
#: What they may on this machine: it could be done through the socket too, or by a signal.
_HERE: Final = Rights({"operate": ("#",)})
_TENANT: Final = "tenant"
#: What a token (JWT) and an API key look like.
_CREDENTIAL: Final = re.compile(r"eyJ[\w-]+\.[\w-]+\.|tk_[0-9a-f]{12}_", re.ASCII)

Parameters = dict[str, Any]


def level_of(call: str) -> str:
    """The name of a call as a topic, which is what filters of `operate` match: dead/list, kick."""
    return call.replace(".", "/")


@attrs.frozen
class Operating:
    """How an operation makes its call; `operations.Call`."""

    call: str
    #: What an operator of a tenant may say, besides its own tenant; None: the call is not for one.
    for_tenant: Collection[str] | None = None
    knows_tenant: bool = True  # else one that was chosen is dropped: the call is about the whole
    #: One of these has to be given, that nobody is meant by saying nothing.
    needs: Collection[str] = ()
    #: Names of the path that are called otherwise in the call.
    renamed: Mapping[str, str] = attrs.field(factory=dict)
    shape: Callable[[Any], Any] = lambda answer: answer
    is_whole: bool = False  # it goes on to its end though whoever asked is gone: half of it would be worse

    async def __call__(self, asked: Asked) -> Answer:
        """Ask. Raises Refused, Problem."""
        parameters = self._parameters(asked)
        call = asked.desk.calls.get(self.call)
        if call is None:
            raise Problem(404, NOT_FOUND, "this node does not offer that")
        session, rights = await operator(asked)
        identity = session.identity
        parameters = self._within(rights, identity.tenant, parameters)
        note(
            asked.desk.log,
            self.call,
            parameters,
            by="http",
            request=asked.request.id,
            user=identity.user,
            tenant=identity.tenant,
            method=identity.method,
            address=session.address,
            connection=session.connection_id,
        )
        try:
            with trio.CancelScope(shield=self.is_whole):
                answer = await call(parameters)
        except Missing as error:
            raise Problem(404, NOT_FOUND, str(error)) from None
        except Unable as error:
            raise Problem(501, ErrorName.UNSUPPORTED, str(error)) from None
        except BadCall as error:
            raise Problem(400, ErrorName.MALFORMED, str(error)) from None
        finally:
            asked.desk.flush()
        return Answer(200, msgspec.json.encode(self.shape(answer)))

    def _parameters(self, asked: Asked) -> Parameters:
        """What was said in path, query and body; the body's word counts most. Raises Problem."""
        found: Parameters = {self.renamed.get(name, name): value for name, value in asked.path.items()}
        for record in (asked.query, asked.body):
            if record is not None:
                found |= msgspec.to_builtins(record)
        if found.get(_TENANT) == "" or not self.knows_tenant:
            found.pop(_TENANT, None)
        for name in ("token", "key"):
            if _CREDENTIAL.match(str(found.get(name, ""))):  # S10: it would stand in the log
                message = f"{name} is the public id of one, not the credential itself, which belongs nowhere else"
                raise Problem(400, ErrorName.MALFORMED, message, field=name)
        if self.needs and not found.keys() & set(self.needs):
            one_of = ", ".join(self.needs)
            raise Problem(400, ErrorName.MALFORMED, f"say whom or what: one of {one_of}")
        return found

    def _within(self, rights: Rights, tenant: str, parameters: Parameters) -> Parameters:
        """The same, kept to the tenant of who asks. Raises Refused."""
        if not rights.may("operate", level_of(self.call)):
            raise forbidden(f"the rules in force do not allow you to operate this: {level_of(self.call)}")
        if not tenant:
            return parameters
        if self.for_tenant is None:
            raise forbidden("this is about the whole broker: an operator of a tenant may not ask for it")
        if parameters.pop(_TENANT, tenant) != tenant:
            raise forbidden("an operator of a tenant asks about that tenant only", field=_TENANT)
        if strange := sorted(parameters.keys() - set(self.for_tenant)):
            message = f"an operator of a tenant may not say {strange[0]}: it is not of one tenant alone"
            raise forbidden(message, field=strange[0])
        return {**parameters, _TENANT: tenant}


def forbidden(message: str, field: str = "") -> Refused:
    """The right to it is missing."""
    return Refused(ErrorName.FORBIDDEN, message, field=field)


async def operator(asked: Asked) -> tuple[Session, Rights]:
    """Who asks, one request of its rate spent, and its rights; on an open broker only this machine has any.

    Raises Refused, Problem.
    """
    visitor = await asked.desk.visitor(asked.request)
    session: Session = visitor.session
    try:
        session.meter.request()
    except Disconnect as end:
        visitor.close(end.code, end.reconnect_after_ms)
        raise problem_of_close(end.code, end.reconnect_after_ms) from None
    if session.identity.method == _OPEN:
        if not (asked.desk.is_open_here and is_from_here(asked.request)):
            raise forbidden("this broker asks nobody who they are, so it is operated from its own machine only")
        return session, _HERE
    return session, session.identity.rights


def is_from_here(request: Request) -> bool:
    """Whether a request comes from this machine, was meant for it, and was passed on by nobody (S9, S29).

    The name in `Host` is what a page had to use that was made to lead here (DNS rebinding); `Origin` and
    `Sec-Fetch-Site` are what a browser says of a page of another site.
    """
    address, headers = request.arrival.address, request.headers
    if (address and not is_this_machine(address)) or any(name in headers for name in _PASSED_ON):
        return False
    host = headers.get(b"host", b"").decode("latin-1").lower()
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    scheme = "https" if request.arrival.is_encrypted else "http"
    origin = headers.get(b"origin")
    is_own_page = origin is None or origin.decode("latin-1").lower() == f"{scheme}://{host}"
    return is_this_machine(name) and is_own_page and headers.get(b"sec-fetch-site", b"none") in OWN_SITE
