"""How does a browser log in and out?"""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, RedirectResponse, Response

from nas.store.store import rfc3339
from nas_services.authentication import find_caller, find_secret, unauthorized
from nas_services.dependencies import ServicesDep
from nas_services.errors import Problem
from nas_services.forms import FORM_TYPE, form_of, media_type
from nas_services.sessions import COOKIE, LIFETIME

router = APIRouter(include_in_schema=False)


@router.post("/login")
async def log_in(request: Request, services: ServicesDep) -> Response:
    """A session for a token in the form field `token`: a cookie, and the session's CSRF token.

    A page's form is sent on to `next`, an address of this service; others get JSON.
    """
    if media_type(request) != FORM_TYPE:
        detail = f"Content-Type: {FORM_TYPE} with a field token is needed"
        raise Problem(415, "Unsupported Media Type", detail, kind="media-type")
    form = await form_of(request)
    token = await run_in_threadpool(find_secret, services, form.get("token", "").strip())
    if token is None:
        if _wants_page(request):
            return RedirectResponse("/login?failed=1", 303)
        raise unauthorized("The token is not valid: it is unknown, has expired or was revoked.")
    session, cookie = await run_in_threadpool(services.sessions.begin, token.id)
    answer: Response
    if _wants_page(request):
        answer = RedirectResponse(_inside(form.get("next", "")), 303)
    else:
        answer = JSONResponse(
            {
                "csrf_token": services.sessions.csrf_token(session),
                "expires": rfc3339(session.expires),
                "owner": token.name,
                "scopes": list(token.scopes),
            }
        )
    answer.set_cookie(
        COOKIE,
        cookie,
        max_age=LIFETIME,
        path="/",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )
    answer.headers["Cache-Control"] = "no-store"
    return answer


@router.post("/logout")
async def log_out(request: Request, services: ServicesDep) -> Response:
    """Ends the browser's session, which needs its CSRF token as all changes do."""
    cookie = request.cookies.get(COOKIE)
    session = await run_in_threadpool(services.sessions.read, cookie) if cookie else None
    if session is not None:
        # It is this that refuses a request without the token.
        await find_caller(request)
        services.sessions.end(session)
    answer = RedirectResponse("/login", 303) if _wants_page(request) else Response(status_code=204)
    answer.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
    return answer


def _wants_page(request: Request) -> bool:
    return "text/html" in request.headers.get("accept", "")


def _inside(address: str) -> str:
    """An address of this service alone: browsers take `//` and `/\\` for another host."""
    plain = address.isascii() and address.isprintable()
    leaves = address.startswith(("//", "/\\")) or not address.startswith("/")
    return address if plain and not leaves else "/"
