"""From the settings to a router."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailserver.delivery.aliases import Aliases
from mailserver.delivery.local import LocalTarget
from mailserver.delivery.router import Router, Rules

if TYPE_CHECKING:
    from mailserver.services import Services


def router(services: Services) -> Router:
    """Return the router for these services."""
    settings = services.settings
    delivery = settings.delivery
    rules = Rules(settings.hostname, settings.domains, delivery.recipient_delimiter, delivery.postmaster)
    local = LocalTarget(lambda: services.store, spam_to=delivery.spam_folder)
    return Router(
        rules,
        services.authenticator,
        local,
        aliases=Aliases(delivery.aliases_file),
        first_user=services.users.first,
    )
