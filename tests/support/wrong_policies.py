"""A masking policy, and changes that make it wrong, each with the beginning of its error."""

POLICY = """\
policy: visits
key: {secret: masking_key}
columns:
  patient_id: {rule: pseudonym, domain: patient}
  name: {rule: drop}
  birth: {rule: generalise, to: decade}
  admitted: {rule: shift_dates, person: patient_id}
  ward: {rule: keep}
  age: {rule: generalise, to: bins, edges: [18, 40, 65]}
  "messages[].content": {rule: text}
text: {countries: [CN, DE], records: {mrn: ["MRN-#######"]}}
quasi_identifiers: {columns: [birth, ward], k: 5, sensitive: age, l: 2}
"""
WRONG = [
    ("policy: visits", "policy: Visits!", "1: policy: got the name 'Visits!'"),
    ("policy: visits\n", "", "1: got no policy"),
    ("key: {secret: masking_key}", "key: 0123456789", "2: key: got a value; a key is declared as a reference"),
    ("key: {secret: masking_key}\n", "", "1: got no key"),
    ("rule: pseudonym", "rule: hash", "4: columns.patient_id.rule: got 'hash'"),
    (
        "{rule: drop}",
        "{rule: drop, days: 3}",
        "5: columns.name.days: got the key days; the rule drop has no further key",
    ),
    ("{rule: drop}", "drop", "5: columns.name: got 'drop'; it is a mapping"),
    ("{rule: drop}", "{}", "5: columns.name: got no rule"),
    ("{rule: drop}", "{rule: drop, why: x}", "5: columns.name.why: got an unknown key"),
    ("to: decade", "to: century", "6: columns.birth.to: got 'century'"),
    (", to: decade", "", "6: columns.birth: got no to; generalise needs to"),
    ("to: decade", "to: prefix", "6: columns.birth: got no length; prefix needs length"),
    ("to: decade", "to: prefix, length: 0", "6: columns.birth.length: got 0"),
    ("to: decade", "to: year, form: '%d.%m.'", "6: columns.birth.form: got '%d.%m.'"),
    (", person: patient_id", "", "7: columns.admitted: got no person; shift_dates needs person"),
    ("person: patient_id", "person: patient", "7: columns.admitted.person: got 'patient'; a column of this policy"),
    ("person: patient_id", "person: patient_id, days: 9999", "7: columns.admitted.days: got 9999; it is 3650 or less"),
    ("person: patient_id", "person: patient_id, form: '%d.%m.%Y %z'", "7: columns.admitted.form: got '%d.%m.%Y %z'"),
    (
        "person: patient_id",
        "person: patient_id, placeholders: ['1.1.']",
        "7: columns.admitted.placeholders[0]: got '1.1.'",
    ),
    ("ward: {rule: keep}", "ward: {rule: shift_dates, person: patient_id, days: 30}", "8: columns.ward.days: got 30"),
    (", edges: [18, 40, 65]", "", "9: columns.age: got no edges; bins needs edges"),
    ("[18, 40, 65]", "[18, 65, 40]", "9: columns.age.edges: got 18, 65, 40"),
    ('  "messages', '  messages: {rule: keep}\n  "messages', "10: columns.messages: got the rule keep; either a rule"),
    ("[CN, DE]", "[CN, DEU]", "11: text.countries[1]: got 'DEU'"),
    ("[CN, DE]", "[CN, CN]", "11: text.countries[1]: got CN twice"),
    ("countries: [CN, DE], ", "", "11: text: got no countries"),
    ("MRN-#######", "MRN-##", "11: text.records.mrn[0]: got 'MRN-##'"),
    ("MRN-#######", "MRN-.*#####", "11: text.records.mrn[0]: got 'MRN-.*#####'"),
    ("k: 5", "k: 1", "12: quasi_identifiers.k: got 1; it is 2 or more"),
    (
        "[birth, ward]",
        "[birth, name]",
        "12: quasi_identifiers.columns[1]: got 'name'; a column of this policy that the",
    ),
    ("[birth, ward]", "[birth, age]", "12: quasi_identifiers.sensitive: got 'age'; the sensitive column is none of"),
    (", l: 2", "", "12: quasi_identifiers: got no l; l-diversity needs sensitive and l"),
    ("l: 2", "l: 9", "12: quasi_identifiers.l: got 9; l is at most k, 5"),
    ('text: {countries: [CN, DE], records: {mrn: ["MRN-#######"]}}\n', "", "1: got no text; text says what"),
    ("\ncolumns:", "\ncolums:", "1: got no columns"),
    ("  ward:", "  name:", "8: columns.name: got the key twice"),
]
"""Old text, new text, and the line with the beginning of the error."""
