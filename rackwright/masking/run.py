"""Masking of files: streamed, written beside the target, and exchanged with it when all of it is right."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from rackwright.errors import ChangeRefused, Diagnostic, quantity
from rackwright.masking.anonymity import AnonymityData, Groups, is_anonymous
from rackwright.masking.findings import refusals
from rackwright.masking.formats import Format, RecordWriter, open_reader, open_writer, quoting_nothing
from rackwright.masking.masker import Masker
from rackwright.masking.output import MODE, NotListed, new_output, publish_error
from rackwright.masking.pseudonyms import Pseudonyms
from rackwright.masking.records import Record
from rackwright.masking.report import FileData, MaskingReport, report, to_text
from rackwright.masking.sources import STDIN, Source, check_target, list_sources
from rackwright.progress import Progress, format_remaining, ignore
from rackwright.schema.masking import MaskingPolicy

PROGRESS_SECONDS, PROGRESS_RECORDS = 1.0, 256
"""Interval of lines about the progress, and the records between two looks at the clock."""


class Masking:
    """The masking of some files by one policy."""

    def __init__(self, policy: MaskingPolicy, file: str, secret: str, progress: Progress = ignore) -> None:
        """
        Args:
            file: The file of *policy*, as the user wrote it.
            secret: The value of the key.
        """
        self._policy, self._file, self._progress = policy, file, progress
        self._pseudonyms = Pseudonyms(secret)
        self._masker = Masker(policy, self._pseudonyms)
        self._groups = Groups(policy.groups) if policy.groups else None
        self._records, self._bytes, self._total = 0, 0, 0
        self._began = self._shown = time.monotonic()

    def run(self, source: str, target: Path, form: Format | None = None) -> MaskingReport:
        """Mask *source* into *target*, write the report, and return it.

        Args:
            source: A file, a directory, or ``-`` for standard input.
            form: The format of the data; None for that of each name.

        Raises:
            ChangeRefused: The data have columns without a rule, values that a rule cannot treat, or too few equal
                records. No file of the target has changed.
        """
        sources = list_sources(source, form, self._policy)
        check_target(target, source, self._policy)
        self._total = sum(each.size for each in sources)
        is_directory = source != STDIN and Path(source).is_dir()
        with new_output(target, is_directory) as output:
            files: list[FileData] = []
            mode = MODE
            for each in sources:
                name = each.name if is_directory else target.name
                mode = MODE if is_directory else each.mode
                with output.create(name, mode) as file:
                    records = self._mask(each, file)
                files.append({"name": name, "records": records, "sha256": output.sha256(name)})
            content = self._report(files, self._judge())
            with output.create(output.report, mode) as file:
                file.write(to_text(content).encode())
            try:
                output.publish()
            except (NotListed, OSError) as error:
                raise ChangeRefused(publish_error(target, error)) from None
        return content

    def _mask(self, source: Source, target: BinaryIO) -> int:
        """Write the masked records of *source* to *target*, and return their number."""
        number = 0
        with quoting_nothing(source.name), source.open() as file:
            reader = open_reader(file, source.form, self._policy)
            if reader.columns:
                self._masker.mask(dict.fromkeys(reader.columns), f"{source.name}: line 1")
                self._refuse()  # each further record has the same columns
            writer = open_writer(target, source.form, reader, self._policy)
            is_complete = False
            try:
                for number, record in enumerate(reader, 1):
                    self._write(record, f"{source.name}: record {number}", writer)
                    if number % PROGRESS_RECORDS == 0:
                        self._show(self._records + number, self._bytes + (file.tell() if source.path else 0))
                is_complete = not self._masker.findings
            finally:
                writer.close(is_complete)
        self._records, self._bytes = self._records + number, self._bytes + source.size
        return number

    def _write(self, record: Record, place: str, writer: RecordWriter) -> None:
        """Mask *record* and write it; after a finding nothing is written, and the rest is looked at for more."""
        masked = self._masker.mask(record, place)
        if not self._masker.findings:
            writer.write(masked)
            if self._groups:
                self._groups.add(masked)

    def _refuse(self) -> None:
        if self._masker.findings:
            raise ChangeRefused(*refusals(self._masker.findings, self._policy, self._file))

    def _judge(self) -> AnonymityData | None:
        """Return the numbers of the quasi-identifiers; raise ChangeRefused for findings and for small groups."""
        self._refuse()
        if self._groups is None:
            return None
        result = self._groups.result()
        if not is_anonymous(result):
            raise ChangeRefused(*anonymity_errors(result, f"{self._file}: quasi_identifiers"))
        return result

    def _report(self, files: Sequence[FileData], anonymity: AnonymityData | None) -> MaskingReport:
        check = self._pseudonyms.name("key_check", "")
        return report(self._policy, check, self._masker.columns, files, anonymity)

    def _show(self, records: int, done: int) -> None:
        now = time.monotonic()
        if now - self._shown < PROGRESS_SECONDS:
            return
        self._shown, seconds = now, now - self._began
        text = f"masking: {quantity(records, 'record')}, {records / seconds:,.0f} records/s"
        if self._total:
            text += f", {100 * done // self._total} %{format_remaining(done, self._total, seconds)}"
        self._progress(text)


def anonymity_errors(data: AnonymityData, where: str) -> Iterator[Diagnostic]:
    """Yield the diagnostics of groups of records that are too small or too uniform."""
    if data["small_groups"]:
        records, groups = quantity(data["small_records"], "record"), quantity(data["small_groups"], "group")
        problem = f"{records} of {groups} share their quasi-identifiers with too few others"
        expected = f"{data['k']} {data['unit']}s or more in each of the {data['groups']} groups"
        expected += f"; the smallest has {data['smallest']}"
        yield Diagnostic(where, problem, expected, "Generalise these columns more, or drop one")
    if data["uniform_groups"]:
        problem = f"{quantity(data['uniform_groups'], 'group')} have too few different sensitive values"
        expected = f"{data['l']} values or more in each of the {data['groups']} groups"
        yield Diagnostic(
            where, problem, expected, "Generalise the quasi-identifiers more, or drop the sensitive column"
        )
