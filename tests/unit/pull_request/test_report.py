"""The result of a pull request's build, for people and as a comment."""

from __future__ import annotations

from floe_orchestrator_dagster.pull_request.report import BuildReport, NodeReport, as_markdown, as_text
from floe_orchestrator_dagster.pull_request.warehouse import TableStats

HOSTILE = "no table a|b</details>\n![](http://example.com/x.png) @org/team `x`"


def report(**changes: object) -> BuildReport:
    """Make the report of a failed test and a changed table."""
    mart = NodeReport(
        "model.shop.mart",
        "mart",
        "model",
        is_changed=True,
        reason="its code has changed",
        status="success",
        ending="succeeded",
        started_from=HOSTILE,
        before=TableStats({"kind": "ENUM('a|b')"}, 2),
        after=TableStats({"kind": "VARCHAR"}, 3),
    )
    test = NodeReport(
        "test.shop.unique",
        "unique",
        "test",
        is_changed=False,
        reason="reads mart",
        status="fail",
        ending="failed",
        message="Got 2 results\n```",
        query="select 1",
    )
    return BuildReport("shop", "s3://state", "schema pr_1", [mart, test], **changes)  # type: ignore[arg-type]


def test_a_comment_shows_what_the_database_says_as_text() -> None:
    made = report(errors=[HOSTILE], notes=[HOSTILE], removed={"model.shop.old|er": ["model.shop.mart"]}, seconds=2)

    lines = [*as_markdown(made)]

    plain = "no table a&#124;b&#60;/details&#62; &#33;&#91;&#93;(http://example.com/x.png) &#64;org/team &#96;x&#96;"
    assert lines == [
        "### ❌ shop: 1 changed and 0 affected table, 1 test, 1 failed, not successful",
        "",
        "Built in 2 s, compared with <code>s3://state</code>.",
        "",
        "| | Table | Reason | Result | Rows | Columns |",
        "|---|---|---|---|---|---|",
        (
            f"| ✅ | <code>mart</code> | its code has changed | success, {plain} | 2 -> 3 (+1) "
            "| <code>kind ENUM('a&#124;b') -&#62; VARCHAR</code> |"
        ),
        "",
        "0 of 1 tests passed.",
        "",
        "<details><summary>❌ <code>unique</code>: fail</summary>",
        "",
        "````",
        "Got 2 results\n```",
        "````",
        "",
        "```sql",
        "select 1",
        "```",
        "",
        "</details>",
        "",
        "**Removed**\n",
        "- <code>model.shop.old&#124;er</code> is removed; production has these readers: <code>model.shop.mart</code>",
        "Error:",
        "",
        "```",
        HOSTILE,
        "```",
        "",
        f"- note: {plain}",
    ]


def test_people_see_each_failed_node_with_its_query() -> None:
    lines = [*as_text(report(seconds=2))]

    assert [line for line, _ in lines] == [
        "shop: 1 changed and 0 affected table, 1 test, 1 failed, not successful",
        "  built in 2 s, in schema pr_1, compared with s3://state",
        "\ntables",
        f"  mart  success  its code has changed; {HOSTILE}; 2 -> 3 (+1); kind ENUM('a|b') -> VARCHAR",
        "\ntests",
        "  unique  fail     reads mart",
        "      Got 2 results",
        "      ```",
        "      | select 1",
    ]
    assert [style for _, style in lines] == ["bold red", "", "bold", "green", "bold", "red", "", "", "dim"]
