"""A record as PREMIS 3: what was made of what, by whom, and what was checked.

Source: PREMIS Data Dictionary 3.0 and its XML schema, Library of Congress, 2016; names of event types from the
Library's preservation vocabulary. Objects are files: the source (which stays where it is), the derivative, and
the residual. Identifiers are computed from what they name, so that the same record gives the same ones.
"""

from __future__ import annotations

import json
import uuid
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from audiorestore import __version__
from audiorestore.errors import printable
from audiorestore.records.record import FileState, Record

NAMESPACE = "http://www.loc.gov/premis/v3"
_SCHEMA = "https://www.loc.gov/standards/premis/v3/premis-v3-0.xsd"
_XSI = "http://www.w3.org/2001/XMLSchema-instance"
_PROGRAM = "audiorestore"


@dataclass(frozen=True)
class Packed:
    """A file of a package: its place there, and its digests by algorithm."""

    place: str
    digests: Mapping[str, str]


@dataclass(frozen=True)
class _Object:
    role: str
    state: FileState
    packed: Packed | None = None

    @property
    def identifier(self) -> str:
        place = self.packed.place if self.packed else self.state.path
        return _uuid(self.role, self.state.sha256, printable(place))


@dataclass(frozen=True)
class _Event:
    kind: str
    time: str
    detail: str
    outcome: str
    note: str
    objects: tuple[tuple[_Object, str], ...]
    by_model: bool = False

    @property
    def identifier(self) -> str:
        return _uuid(self.kind, self.detail, *(item.identifier for item, _ in self.objects))


def premis(
    record: Record, *, result: Packed, packed_at: datetime, residual: Packed | None = None, organisation: str = ""
) -> bytes:
    """Return a record as a PREMIS 3 document, XML in UTF-8.

    Args:
        record: what was done.
        result: the derivative in its package. residual: that of what was removed, if it is there.
        packed_at: when both were compared with the record.
        organisation: who answers for it, if that is to be an agent.
    """
    source = _Object("source", record.source)
    derivative = _Object("derivative", record.result, result)
    rest = _Object("residual", record.residual, residual) if record.residual and residual else None
    events = _events(record, source, derivative, rest, packed_at.isoformat(timespec="seconds"))
    ET.register_namespace("premis", NAMESPACE)
    ET.register_namespace("xsi", _XSI)
    root = ET.Element(
        f"{{{NAMESPACE}}}premis", {"version": "3.0", f"{{{_XSI}}}schemaLocation": f"{NAMESPACE} {_SCHEMA}"}
    )
    root.append(_file(source, events))
    root.append(_file(derivative, events, record=record, made_from=source))
    if rest is not None:
        root.append(_file(rest, events, record=record, made_from=source))
    root.extend(_event(event, record, organisation) for event in events)
    root.extend(_agents(record, organisation))
    ET.indent(root)
    return bytes(ET.tostring(root, encoding="utf-8", xml_declaration=True)) + b"\n"


def _events(
    record: Record, source: _Object, derivative: _Object, rest: _Object | None, packed_at: str
) -> tuple[_Event, ...]:
    ended = (datetime.fromisoformat(record.started) + timedelta(seconds=record.seconds)).isoformat(timespec="seconds")
    outcomes = ((derivative, "outcome"), *(((rest, "outcome"),) if rest else ()))
    stages = [
        {"stage": stage.name, "applied": stage.applied, "parameters": stage.parameters} for stage in record.stages
    ]
    verdict = str(record.quality.get("outcome", "logged"))
    return (
        _Event(
            *("message digest calculation", record.started, "SHA-256 of the file and of its samples before the work"),
            *("success", "", ((source, "source"),)),
        ),
        _Event(
            *("modification", record.started, json.dumps({"restoration": stages, "settings": record.config})),
            *("warning" if record.warnings else "success", "; ".join(record.warnings)),
            ((source, "source"), *outcomes),
            by_model=bool(record.model),
        ),
        _Event(
            *("fixity check", ended, "SHA-256, size and time of the source after the work"),
            *("success", "the source is as it was", ((source, "source"),)),
        ),
        _Event(
            *("message digest calculation", ended, "SHA-256 of the file and of its samples, read back after writing"),
            *("success", "", outcomes),
        ),
        _Event(
            *("quality assurance", ended, "measures before and after the work"),
            *(verdict, json.dumps({"quality": record.quality, "measures": record.measures})),
            ((source, "source"), (derivative, "outcome")),
        ),
        _Event(
            *("fixity check", packed_at, "SHA-256 against the record, while the package was made"),
            *("success", "", outcomes),
        ),
    )


def _file(
    item: _Object, events: tuple[_Event, ...], *, record: Record | None = None, made_from: _Object | None = None
) -> ET.Element:
    state, mine = item.state, [event for event in events if any(item == linked for linked, _ in event.objects)]
    role = record.role if record and item.role == "derivative" else item.role
    node = _node("object", _identifier("object", "UUID", item.identifier))
    node.set(f"{{{_XSI}}}type", "premis:file")
    properties = {
        "role": role,
        "sample rate in Hz": state.sound["sample_rate"],
        "channels": state.sound["channels"],
        "samples of each channel": state.sound["n_samples"],
        "SHA-256 of the samples alone": state.audio_sha256,
    }
    node.extend(
        _node(
            "significantProperties",
            _text("significantPropertiesType", name),
            _text("significantPropertiesValue", value),
        )
        for name, value in properties.items()
        if value != ""
    )
    node.append(_characteristics(item, record))
    node.append(_text("originalName", Path(state.path).name))
    place = ("path in the package", item.packed.place) if item.packed else ("path", state.path)
    location = _node("contentLocation", _text("contentLocationType", place[0]), _text("contentLocationValue", place[1]))
    node.append(_node("storage", location))
    if made_from is not None:
        modified = next(event for event in mine if event.kind == "modification")
        node.append(
            _node(
                "relationship",
                _text("relationshipType", "derivation"),
                _text("relationshipSubType", "has source"),
                _identifier("relatedObject", "UUID", made_from.identifier),
                _identifier("relatedEvent", "UUID", modified.identifier),
            )
        )
    node.extend(_identifier("linkingEvent", "UUID", event.identifier) for event in mine)
    return node


def _characteristics(item: _Object, record: Record | None) -> ET.Element:
    state = item.state
    digests = {"sha256": state.sha256, **(item.packed.digests if item.packed else {})}
    node = _node("objectCharacteristics", _text("compositionLevel", 0))
    for algorithm, digest in sorted(digests.items()):
        node.append(
            _node(
                "fixity",
                _text("messageDigestAlgorithm", algorithm.upper().replace("SHA", "SHA-")),
                _text("messageDigest", digest),
                _text("messageDigestOriginator", _PROGRAM),
            )
        )
    node.append(_text("size", state.size))
    designation = _node(
        "formatDesignation", _text("formatName", f"{state.sound['container']} {state.sound['subtype']}")
    )
    node.append(_node("format", designation, _text("formatNote", "names of libsndfile")))
    if record is not None:
        program_version = record.machine.get("versions", {}).get(_PROGRAM, "unknown")
        node.append(
            _node(
                "creatingApplication",
                _text("creatingApplicationName", _PROGRAM),
                _text("creatingApplicationVersion", program_version),
                _text("dateCreatedByApplication", record.started),
            )
        )
    return node


def _event(event: _Event, record: Record, organisation: str) -> ET.Element:
    outcome = _node("eventOutcomeInformation", _text("eventOutcome", event.outcome))
    if event.note:
        outcome.append(_node("eventOutcomeDetail", _text("eventOutcomeDetailNote", event.note)))
    node = _node(
        "event",
        _identifier("event", "UUID", event.identifier),
        _text("eventType", event.kind),
        _text("eventDateTime", event.time),
        _node("eventDetailInformation", _text("eventDetail", event.detail)),
        outcome,
        _identifier("linkingAgent", "local", _program(record), role="executing program"),
    )
    if event.by_model:
        node.append(_identifier("linkingAgent", "SHA-256", record.model["sha256"], role="network"))
    if organisation:
        node.append(_identifier("linkingAgent", "local", organisation, role="authorizer"))
    node.extend(_identifier("linkingObject", "UUID", item.identifier, role=role) for item, role in event.objects)
    return node


def _agents(record: Record, organisation: str) -> list[ET.Element]:
    used = record.machine.get("versions", {})
    program = _node(
        "agent",
        _identifier("agent", "local", _program(record)),
        _text("agentName", _PROGRAM),
        _text("agentType", "software"),
        _text("agentVersion", used.get(_PROGRAM, __version__)),
        _text("agentNote", json.dumps(record.machine)),
    )
    agents = [program]
    if record.model:
        agents.append(
            _node(
                "agent",
                _identifier("agent", "SHA-256", record.model["sha256"]),
                _text("agentName", record.model["name"]),
                _text("agentType", "software"),
                _text("agentNote", f"weights of a network, after {record.model['step']} steps of training"),
            )
        )
    if organisation:
        agents.append(
            _node(
                "agent",
                _identifier("agent", "local", organisation),
                _text("agentName", organisation),
                _text("agentType", "organization"),
            )
        )
    return agents


def _program(record: Record) -> str:
    return f"{_PROGRAM} {record.machine.get('versions', {}).get(_PROGRAM, __version__)}"


def _identifier(kind: str, scheme: str, value: str, *, role: str = "") -> ET.Element:
    """Return ``KINDIdentifier`` with its type and value, and the role that linking ones may have."""
    node = _node(f"{kind}Identifier", _text(f"{kind}IdentifierType", scheme), _text(f"{kind}IdentifierValue", value))
    if role:
        node.append(_text(f"{kind}Role", role))
    return node


def _node(name: str, *children: ET.Element) -> ET.Element:
    node = ET.Element(f"{{{NAMESPACE}}}{name}")
    node.extend(children)
    return node


def _text(name: str, value: object) -> ET.Element:
    """Return an element with text; characters that XML cannot hold are escaped, as everywhere where names are shown."""
    node = _node(name)
    node.text = printable(str(value))
    return node


def _uuid(*parts: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, "\n".join((f"urn:{_PROGRAM}", *parts))))
