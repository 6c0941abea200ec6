"""The part of PREMIS 3.0 that is written here, as a table of content models to hold documents to.

Written after the XML schema of the Library of Congress (version 3.0, 18 January 2016), type by type. No package ships
that schema, and it is not ours to ship; where there is a copy, its path in the variable ``PREMIS_XSD`` has documents
validated by it as well (`tests/test_package.py`).
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator

PREMIS = "{http://www.loc.gov/premis/v3}"
XSI = "{http://www.w3.org/2001/XMLSchema-instance}"

# Children in order, each with how often it may stand there.
MODEL = {
    "premis": "object+ event* agent* rights*",
    "object": (  # xsi:type="file"
        "objectIdentifier+ preservationLevel* significantProperties* objectCharacteristics+ originalName? storage* "
        "signatureInformation* relationship* linkingEventIdentifier* linkingRightsStatementIdentifier*"
    ),
    "event": (
        "eventIdentifier eventType eventDateTime eventDetailInformation* eventOutcomeInformation* "
        "linkingAgentIdentifier* linkingObjectIdentifier*"
    ),
    "agent": (
        "agentIdentifier+ agentName* agentType? agentVersion? agentNote* agentExtension* linkingEventIdentifier* "
        "linkingRightsStatementIdentifier* linkingEnvironmentIdentifier*"
    ),
    "objectIdentifier": "objectIdentifierType objectIdentifierValue",
    "significantProperties": "significantPropertiesType significantPropertiesValue? significantPropertiesExtension*",
    "objectCharacteristics": (
        "compositionLevel? fixity* size? format+ creatingApplication* inhibitors* objectCharacteristicsExtension*"
    ),
    "fixity": "messageDigestAlgorithm messageDigest messageDigestOriginator?",
    "format": "formatDesignation formatRegistry? formatNote*",
    "formatDesignation": "formatName formatVersion?",
    "creatingApplication": (
        "creatingApplicationName creatingApplicationVersion? dateCreatedByApplication? creatingApplicationExtension*"
    ),
    "storage": "contentLocation storageMedium?",
    "contentLocation": "contentLocationType contentLocationValue",
    "relationship": (
        "relationshipType relationshipSubType relatedObjectIdentifier+ relatedEventIdentifier* "
        "relatedEnvironmentPurpose* relatedEnvironmentCharacteristic?"
    ),
    "relatedObjectIdentifier": "relatedObjectIdentifierType relatedObjectIdentifierValue relatedObjectSequence?",
    "relatedEventIdentifier": "relatedEventIdentifierType relatedEventIdentifierValue relatedEventSequence?",
    "linkingEventIdentifier": "linkingEventIdentifierType linkingEventIdentifierValue",
    "linkingAgentIdentifier": "linkingAgentIdentifierType linkingAgentIdentifierValue linkingAgentRole*",
    "linkingObjectIdentifier": "linkingObjectIdentifierType linkingObjectIdentifierValue linkingObjectRole*",
    "eventIdentifier": "eventIdentifierType eventIdentifierValue",
    "eventDetailInformation": "eventDetail? eventDetailExtension*",
    "eventOutcomeInformation": "eventOutcome eventOutcomeDetail*",
    "eventOutcomeDetail": "eventOutcomeDetailNote eventOutcomeDetailExtension*",
    "agentIdentifier": "agentIdentifierType agentIdentifierValue",
}
ATTRIBUTES = {"premis": {"version", f"{XSI}schemaLocation"}, "object": {f"{XSI}type"}}
WHOLE_NUMBERS = ("size", "compositionLevel")
DATES = ("eventDateTime", "dateCreatedByApplication")


def problems(root: ET.Element) -> Iterator[str]:
    """Yield what is wrong with a document: order, number, kind of content, and links that lead nowhere."""
    if root.tag != f"{PREMIS}premis" or root.get("version") != "3.0":
        yield f"root: {root.tag} of version {root.get('version')}"
    for node in root.iter():
        yield from _wrong_with(node)
    yield from _broken_links(root)


def _wrong_with(node: ET.Element) -> Iterator[str]:
    if not node.tag.startswith(PREMIS):
        yield f"{node.tag}: of another namespace"
        return
    name = node.tag.removeprefix(PREMIS)
    children = "".join(f"{child.tag.removeprefix(PREMIS)} " for child in node)
    strange = set(node.attrib) - ATTRIBUTES.get(name, set())
    if strange:
        yield f"{name}: attributes {strange}"
    if name == "object" and node.get(f"{XSI}type") != "premis:file":
        yield f"object: of type {node.get(f'{XSI}type')}"
    if name in MODEL:
        pattern = re.sub(r"(\w+)([+*?]?) ?", r"(?:\1 )\2", MODEL[name])
        if not re.fullmatch(pattern, children):
            yield f"{name}: {children}"
        if (node.text or "").strip():
            yield f"{name}: text among elements"
        return
    text = node.text or ""
    if children or not text.strip():
        yield f"{name}: expected text, found {children or 'nothing'}"
    if name in WHOLE_NUMBERS and not re.fullmatch(r"\d+", text):
        yield f"{name}: {text}"
    if name in DATES and not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\+00:00|Z)", text):
        yield f"{name}: {text}"


def _broken_links(root: ET.Element) -> Iterator[str]:
    """Yield identifiers that are not unique, and links to what is not in the document (a rule of the dictionary)."""
    known = {kind: _identifiers(root, f"{kind}/", kind) for kind in ("object", "event", "agent")}
    for kind, found in known.items():
        if len(set(found)) < len(found):
            yield f"{kind}: identifiers {found}"
        for link in (f"linking{kind.capitalize()}", f"related{kind.capitalize()}"):
            for target in _identifiers(root, ".//", link):
                if target not in found:
                    yield f"{link}: {target} is not in the document"


def _identifiers(root: ET.Element, where: str, kind: str) -> list[tuple[str | None, str | None]]:
    steps = "/".join(f"{PREMIS}{step}" for step in where.split("/") if step and step != ".")
    below = f"{steps}/" if steps else ".//"
    return [
        (node.findtext(f"{PREMIS}{kind}IdentifierType"), node.findtext(f"{PREMIS}{kind}IdentifierValue"))
        for node in root.findall(f"{below}{PREMIS}{kind}Identifier")
    ]
