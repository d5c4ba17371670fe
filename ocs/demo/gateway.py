"""A gateway that we did not write: PyPI `python-diameter` as the client of the demonstration.

Everything that crosses the wire on this side is made and read by that library, so the demonstration shows what a foreign
stack gets, not what our own codec thinks of itself.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, NamedTuple

from diameter.message.commands.credit_control import CreditControlAnswer, CreditControlRequest
from diameter.message.constants import (
    E_CC_REQUEST_TYPE_EVENT_REQUEST,
    E_CC_REQUEST_TYPE_INITIAL_REQUEST,
    E_CC_REQUEST_TYPE_TERMINATION_REQUEST,
    E_CC_REQUEST_TYPE_UPDATE_REQUEST,
    E_REQUESTED_ACTION_DIRECT_DEBITING,
    E_SUBSCRIPTION_ID_TYPE_END_USER_E164,
)
from diameter.node import Node
from diameter.node.application import SimpleThreadingApplication

CREDIT_CONTROL_APPLICATION = 4
VENDOR_3GPP = 10415
ANSWER_TIMEOUT_S = 10
CONNECT_TIMEOUT_S = 10

KINDS = {
    "initial": E_CC_REQUEST_TYPE_INITIAL_REQUEST,
    "update": E_CC_REQUEST_TYPE_UPDATE_REQUEST,
    "termination": E_CC_REQUEST_TYPE_TERMINATION_REQUEST,
    "event": E_CC_REQUEST_TYPE_EVENT_REQUEST,
}
UNITS = ("cc_total_octets", "cc_time", "cc_service_specific_units")


class Granted(NamedTuple):
    """What the library read out of an answer."""

    command_code: int
    service_code: int | None
    units: int | None
    validity_s: int | None
    threshold: int | None
    final_action: int | None


class Gateway:
    """One node of the library, connected to one server."""

    def __init__(self, origin_host: str, origin_realm: str, server_host: str, server_realm: str, port: int) -> None:
        logging.getLogger("diameter").setLevel(logging.CRITICAL)
        self._origin = (origin_host.encode(), origin_realm.encode())
        self._realm = server_realm.encode()
        self._node = Node(origin_host, origin_realm, vendor_ids=[VENDOR_3GPP])
        peer = self._node.add_peer(
            f"aaa://{server_host}:{port};transport=tcp", server_realm, ip_addresses=["127.0.0.1"], is_persistent=True
        )
        handler: Callable[..., Any] = _refuse
        self._application = SimpleThreadingApplication(
            CREDIT_CONTROL_APPLICATION, is_auth_application=True, request_handler=handler
        )
        self._node.add_application(self._application, [peer])

    def __enter__(self) -> Gateway:
        self._node.start()
        self._application.wait_for_ready(CONNECT_TIMEOUT_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._node.stop(wait_timeout=5)

    def session_id(self) -> str:
        """A new Session-Id."""
        return str(self._node.session_generator.next_id())

    def ask(
        self,
        kind: str,
        number: int,
        session_id: str,
        context: str,
        msisdn: str,
        *,
        rating_group: int | None = None,
        unit: str = "cc_total_octets",
        requested: int | None = None,
        wanted: bool = True,
        used: int | None = None,
    ) -> Granted:
        """Send a CCR with one Multiple-Services-Credit-Control and read the CCA."""
        request = CreditControlRequest()
        request.session_id = session_id
        request.origin_host, request.origin_realm = self._origin
        request.destination_realm = self._realm
        request.auth_application_id = CREDIT_CONTROL_APPLICATION
        request.service_context_id = context
        request.cc_request_type = KINDS[kind]
        request.cc_request_number = number
        if kind in ("initial", "event"):
            request.multiple_services_indicator = 1
            request.add_subscription_id(
                subscription_id_type=E_SUBSCRIPTION_ID_TYPE_END_USER_E164, subscription_id_data=msisdn
            )
        if kind == "event":
            request.requested_action = E_REQUESTED_ACTION_DIRECT_DEBITING
        request.add_multiple_services_credit_control(**_service(rating_group, unit, requested, wanted, used))
        answer = self._application.send_request(request, timeout=ANSWER_TIMEOUT_S)
        return _read(answer, unit)


def _service(
    rating_group: int | None, unit: str, requested: int | None, wanted: bool, used: int | None
) -> dict[str, Any]:
    from diameter.message.avp.grouped import RequestedServiceUnit, UsedServiceUnit

    members: dict[str, Any] = {}
    if rating_group is not None:
        members["rating_group"] = rating_group
    if wanted:
        members["requested_service_unit"] = RequestedServiceUnit(**({} if requested is None else {unit: requested}))
    if used is not None:
        members["used_service_unit"] = [UsedServiceUnit(**{unit: used})]
    return members


def _read(answer: Any, unit: str) -> Granted:
    if not isinstance(answer, CreditControlAnswer):
        raise TypeError(f"the library read {type(answer).__name__} where a CCA was expected")
    services = answer.multiple_services_credit_control
    if not services:
        return Granted(answer.result_code, None, None, None, None, None)
    service = services[0]
    granted = service.granted_service_unit
    final = service.final_unit_indication
    return Granted(
        answer.result_code,
        service.result_code,
        None if granted is None else getattr(granted, unit),
        service.validity_time,
        service.volume_quota_threshold,
        None if final is None else final.final_unit_action,
    )


def _refuse(_application: object, _request: object) -> None:
    """The demonstration's server sends no requests of its own."""
