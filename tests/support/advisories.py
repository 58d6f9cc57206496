# SPDX-License-Identifier: MIT
"""Look up every version of constraints.txt in a copy of a vulnerability database: for machines that reach none.

    git clone https://github.com/pypa/advisory-database
    python tests/support/advisories.py advisory-database/vulns

The records are OSV's (https://ossf.github.io/osv-schema), as yaml or json, in any folders. Ends with code 1 where one
affects a version.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml
from packaging.version import InvalidVersion, Version
from runtime_requirements import exact_versions


def affected(record: dict, versions: dict[str, str]) -> Iterator[str]:
    """Names of packages whose version a record affects."""
    for entry in record.get("affected", ()):
        name = re.sub("[-_.]+", "-", entry.get("package", {}).get("name", "")).lower()
        if record.get("withdrawn") or entry.get("package", {}).get("ecosystem") != "PyPI" or name not in versions:
            continue
        listed = versions[name] in map(str, entry.get("versions", ()))
        if listed or any(within(span, Version(versions[name])) for span in entry.get("ranges", ())):
            yield name


def within(span: dict, version: Version) -> bool:
    """Whether a version lies between an event that brings the hole and the next that mends it."""
    hit = False
    for event in span["events"] if span["type"] == "ECOSYSTEM" else ():
        ((kind, at),) = event.items()
        try:
            reached = version > Version(str(at)) if kind == "last_affected" else version >= Version(str(at))
        except InvalidVersion:
            continue
        if reached:
            hit = kind == "introduced"
    return hit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="OSV records")
    options = parser.parse_args()
    versions, read, of_ours, newest, found = exact_versions(), 0, 0, "", []
    for path in sorted(path for path in options.folder.rglob("*") if path.suffix in (".yaml", ".yml", ".json")):
        text = path.read_text(encoding="utf-8")
        record = json.loads(text) if path.suffix == ".json" else yaml.load(text, yaml.CSafeLoader)
        read, newest = read + 1, max(newest, str(record.get("published", ""))[:10])
        names = {
            re.sub("[-_.]+", "-", entry.get("package", {}).get("name", "")).lower() for entry in record["affected"]
        }
        of_ours += bool(names & set(versions))
        found += [f"{name} {versions[name]}: {record['id']} {path.name}" for name in affected(record, versions)]
    if not read:
        parser.error(f"{options.folder} holds no record")
    print("\n".join(found))
    print(
        f"{len(versions)} packages; {read} records to {newest}, "
        f"{of_ours} on these packages, {len(found)} on these versions"
    )
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
