"""Tables of people: what is missing is an error, not a group."""

from pathlib import Path

import pytest
from shards import encode, refusal, solid

from clip_jax.evaluation.analyses.bias.people import default_groups, read_people


@pytest.fixture
def table(tmp_path):
    (tmp_path / "val").mkdir()
    for number in range(3):
        (tmp_path / "val" / f"{number}.png").write_bytes(encode(solid(number)))
    path = tmp_path / "fairface_label_val.csv"
    path.write_text(
        "file,age,gender,race,service_test\n"
        "val/0.png,3-9,Male,East Asian,True\n"
        "val/1.png,50-59,Female,Black,False\n"
        "val/2.png,30-39,Male,Latino_Hispanic,False\n"
    )
    return path


def test_fairface_is_read(table):
    assert default_groups(table) == ("race", "gender", "age")
    people = read_people(table, ["race", "gender"], "file")
    assert len(people) == 3
    assert people.columns["race"] == ["East Asian", "Black", "Latino_Hispanic"]
    assert people.joined(["gender", "race"])[1] == ("Female", "Black")
    assert people[1] == Path(table.parent / "val" / "1.png").read_bytes()
    assert people.name == "fairface_label_val"


def test_what_is_refused(table, tmp_path):
    text = table.read_text()
    assert "no column 'skin'; it has file, age" in refusal(read_people, table, ["skin"], "file")
    assert "no column 'path'" in refusal(read_people, table, ["race"], "path")
    table.write_text(text.replace("Female", " "))
    assert "row 3 has nothing in column 'gender'" in refusal(read_people, table, ["gender"], "file")
    table.write_text(text + "val/2.png,30-39\n")
    assert "row 5 has nothing in column 'race'" in refusal(read_people, table, ["race"], "file")
    table.write_text(text.replace("1.png", "9.png"))
    assert "9.png: no such picture" in refusal(read_people, table, ["race"], "file")
    table.write_text("file,group\nval/0.png,a\n")
    assert "name those of the groups with --groups" in refusal(default_groups, table)
    table.write_text("file,group\n")
    assert "no rows in it" in refusal(default_groups, table)
    assert "cannot be read" in refusal(default_groups, tmp_path / "none.csv")
