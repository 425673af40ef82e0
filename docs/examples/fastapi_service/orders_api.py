"""A FastAPI service whose orders go to a topic: 201 means that the broker has stored the order.

    uvicorn --app-dir docs/examples/fastapi_service orders_api:app

TRIODE_URL names the broker (ws://127.0.0.1:7400), ORDERS_PATIENCE_SECONDS how long a request waits for it (5). The
README beside this file has the rest.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, TypedDict

import triode.asyncio
from fastapi import Depends, FastAPI, Header, HTTPException, Request, status
from pydantic import BaseModel, Field

TOPIC = "orders/placed"


class Order(BaseModel):
    """What a customer wants."""

    item: str = Field(min_length=1, max_length=200)
    count: int = Field(ge=1, le=1_000)


class Placed(BaseModel):
    """Where an order is. `repeated`: it had been placed before, under the same Idempotency-Key."""

    position: dict[str, int]
    level: str
    repeated: bool


class State(TypedDict):
    """What requests find in `request.state`."""

    client: triode.asyncio.Client


def encode(value: Any) -> Any:
    """What JSON has no word for."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    raise TypeError(f"not to be published: {type(value).__name__}")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[State]:
    """One client as long as the service lives."""
    async with triode.asyncio.connect(
        os.environ.get("TRIODE_URL", "ws://127.0.0.1:7400"),
        name="orders-api",
        wait_seconds=0,
        encode=encode,
        publish_expiry_seconds=float(os.environ.get("ORDERS_PATIENCE_SECONDS", "5")),
    ) as client:
        yield {"client": client}


def the_client(request: Request) -> triode.asyncio.Client:
    """For requests."""
    client = request.state.client
    assert isinstance(client, triode.asyncio.Client)
    return client


Client = Annotated[triode.asyncio.Client, Depends(the_client)]
app = FastAPI(title="Orders", lifespan=lifespan)


@app.post("/orders", status_code=status.HTTP_201_CREATED)
async def place(
    order: Order, client: Client, idempotency_key: Annotated[str, Header(max_length=64)] = ""
) -> Placed:
    """Publish an order. Without an answer, or after a 503, send it again with the same Idempotency-Key."""
    try:
        published = await client.publish(TOPIC, order, message_id=idempotency_key)
    except triode.PublishRefused as error:
        if error.name == "conflict":
            raise HTTPException(409, "this Idempotency-Key was another order's") from error
        raise HTTPException(503, str(error)) from error
    except triode.TriodeError as error:
        raise HTTPException(503, str(error)) from error
    return Placed(position=published.position, level=published.level, repeated=published.duplicate)


@app.get("/orders/recent")
async def recent(client: Client) -> list[Order]:
    """The last ten orders that the broker holds, oldest first."""
    try:
        page = await client.history(TOPIC, last=10)
    except triode.TriodeError as error:
        raise HTTPException(503, str(error)) from error
    return [Order.model_validate(message.data) for message in page.messages]
