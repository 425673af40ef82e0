"""What can be asked of the shop. Knows rows and events, not how the events get to the broker."""

import triode
from django.db import transaction
from django.http import HttpRequest, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from shop import events
from shop.models import Order

MOST_ON_CREDIT = 100


class PaymentDeclinedError(Exception):
    """The order is not to be."""


@csrf_exempt  # asked by programs, which have no cookie
@require_POST
def orders(request: HttpRequest) -> JsonResponse:
    """Sell something. What is said about it comes after the commit."""
    item, count = request.POST.get("item", ""), request.POST.get("count", "")
    if not item or not count.isdecimal():
        return JsonResponse({"error": "an order has an item and a count"}, status=400)
    try:
        with transaction.atomic():
            order = Order.objects.create(item=item, count=int(count))
            data = {"id": order.pk, "item": order.item, "count": order.count}
            events.tell_after_commit("shop/orders", data, message_id=f"order-{order.pk}")
            charge(order)
    except PaymentDeclinedError:
        return JsonResponse({"error": "payment declined"}, status=402)
    return JsonResponse(data, status=201)


@csrf_exempt
@require_POST
def announcements(request: HttpRequest) -> JsonResponse:
    """Tell everybody something, and answer when the broker has it."""
    try:
        published = events.client.publish("shop/announcements", {"text": request.POST.get("text", "")})
    except triode.TriodeError as error:
        return JsonResponse({"error": str(error)}, status=503)
    return JsonResponse({"position": published.position}, status=201)


def charge(order: Order) -> None:
    """Stands for something that may fail late. Raises PaymentDeclinedError."""
    if order.count > MOST_ON_CREDIT:
        raise PaymentDeclinedError
