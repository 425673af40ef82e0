"""The shop as servers run it. It says so; with `gunicorn --preload` that is before there are workers."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
application = get_wsgi_application()

from shop import events  # noqa: E402 # needs the settings

events.client.publish_nowait("shop/announcements", {"text": "The shop is open"})
