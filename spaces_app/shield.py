# SPDX-License-Identifier: MIT
"""Headers by which a browser asks no other server for anything, and runs nothing that a visitor uploaded."""

from typing import Any


# gradio's page has scripts and styles in line and makes functions of text; spaces are shown in a frame of the Hub.
POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "media-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self' data: blob:",
        "worker-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'self' https://huggingface.co https://*.hf.space",
    )
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=()",
}


class Headers:
    """ASGI middleware that adds `HEADERS` to every answer; a file that somebody made gets a policy of its own."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: dict, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        found = HEADERS | ({"content-security-policy": "sandbox"} if "/file=" in scope["path"] else {})
        added = [(name.encode(), value.encode()) for name, value in found.items()]

        async def answer(message: dict) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *added]
            await send(message)

        await self.app(scope, receive, answer)
