"""What if a request comes again? Under its key it is done once, and answered as it was first."""

from __future__ import annotations

from collections.abc import Callable

from starlette.responses import JSONResponse, Response

from nas.store.serving import Once, Reply
from nas_services.authentication import Caller
from nas_services.bodies import Post
from nas_services.dependencies import Services

REPLAYED_HEADER = "Idempotent-Replayed"


def answered(
    services: Services, caller: Caller, post: Post, act: Callable[[Once], Reply]
) -> Response:
    """Does what `act` does and answers its reply, both in one transaction, or replays an answer.

    An error of `act` leaves nothing, so that the request may come again. What takes long is done
    before this, behind `replayed`: nobody else can write meanwhile. Raises `IdempotencyConflict`
    where the caller's key stands for another request.
    """
    with services.serving.once(caller.owner, post.key, post.digest) as once:
        if once.replay is not None:
            return response_of(once.replay, replayed=True)
        reply = act(once)
        once.reply(reply)
    return response_of(reply)


def replayed(services: Services, caller: Caller, post: Post) -> Response | None:
    """The answer to an earlier request of the key, for what takes long to do again; else None."""
    if post.key is None:
        return None
    with services.serving.once(caller.owner, post.key, post.digest) as once:
        found = once.replay
    return None if found is None else response_of(found, replayed=True)


def response_of(reply: Reply, *, replayed: bool = False) -> Response:
    """A reply as it is sent."""
    headers = dict(reply.headers)
    if replayed:
        headers[REPLAYED_HEADER] = "true"
    if reply.body is None:
        return Response(status_code=reply.status, headers=headers)
    return JSONResponse(dict(reply.body), reply.status, headers)
