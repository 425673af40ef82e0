"""Django's command line for the shop.

    python docs/examples/django_service/manage.py migrate

Knows the settings' name and nothing else.
"""

import os
import sys

from django.core.management import execute_from_command_line

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
    execute_from_command_line(sys.argv)
