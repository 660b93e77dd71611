"""Switch off each fix in the NeMo wing in turn: the tests that guard it must then fail.

python scripts/without_fixes.py [NAME ...]

Works on a throwaway copy of the source. Takes a quarter of an hour; a name runs one fix alone.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
ENGINE, ACTIONS, TRANSCRIPTS, HOST, CLEARING, LOADING = (
    f"turnguard/nemo/{name}.py" for name in ("engine", "actions", "transcripts", "host", "clearing", "loading")
)
FLOWS = "turnguard/rails/flows.co"

FIXES: list[tuple[str, str, str, str, str]] = [
    ("events", ENGINE, "        _wrap_events(app)\n", "", "past_tool_call or check_with_tool"),
    (
        "refusal in streams",
        ENGINE,
        "        await handler.push_chunk(error_chunk",
        "        None and (error_chunk",
        "parallel_rails_do_not_append",
    ),
    (
        "knowledge",
        ENGINE,
        "        _wrap_knowledge(app, host)\n",
        "",
        "without_dialog_flows or knowledge_base_is_searched",
    ),
    ("streaming", ENGINE, "        _wrap_streaming(app, host)\n", "", "nothing_is_streamed_before"),
    ("check", ENGINE, "        _wrap_check(app, host)\n", "", "allowed_image_passes_check"),
    (
        "check alone",
        ENGINE,
        "            return await _checked_alone(host, messages)\n",
        "            pass\n",
        "runs_no_rail_on",
    ),
    ("predefined", ENGINE, "        _wrap_predefined(app, host)\n", "", "predefined_message_with"),
    ("events api", ENGINE, "    _wrap_events_api(app)\n", "", "events_api_in_an_action"),
    ("adapters", ENGINE, "            _use_own_adapters(app)\n", "", "tracing_with_content_shows_none"),
    ("take results", FLOWS, "  execute turnguard_take_results\n", "", "allowed_tool_result_goes_on"),
    ("tool loop", FLOWS, "$turnguard_at", "$i", "every_tool_result_is_shown"),
    (
        "screen",
        ENGINE,
        "                await host.screen(turn, rails, checking=checking is not None)\n",
        "",
        "unsafe_in_earlier_turns",
    ),
    (
        "clear",
        ENGINE,
        "            return clear(result, turn, app)",
        "            return result",
        "blocked_output_is_in_log",
    ),
    (
        "looked at",
        TRANSCRIPTS,
        '    return last.get("role") == "user" or is_tool(last)',
        "    return True or is_tool(last)",
        "not_the_last_one or answer_begun",
    ),
    (
        "untouched",
        HOST,
        "        if not self.clients_write:\n            return\n",
        "        return\n",
        "clients_write_nothing or clients_send_no",
    ),
    (
        "stream handler",
        ENGINE,
        "                _refuse_unjudged_streaming(host, streaming_handler)\n",
        "                pass\n",
        "with_a_streaming_handler",
    ),
    ("alone", ENGINE, "for each in (_streaming, _checking)]", "for each in ()]", "app_that_an_action_calls"),
    ("the question", ENGINE, "        _keep_the_question(turn)\n", "", "overwrite_the_question"),
    (
        "told",
        ENGINE,
        "            return _told(await original(messages, rail_types), run.turn, messages)",
        "            return await original(messages, rail_types)",
        "allowed_image_passes_check",
    ),
    (
        "all that is new",
        ACTIONS,
        "    decisions = await turn.judge(host.guard, turn.newest)\n    turn.pass",
        "    decisions = await turn.judge(host.guard, [turn.newest[-1]] if turn.newest else [])\n    turn.pass",
        "consecutive_user_messages_1413",
    ),
    (
        "rewrite keeps the picture",
        ACTIONS,
        '    changes = {"user_message": turn.said}\n',
        '    changes = {"user_message": transcripts.text_of(turn.said)}\n',
        "text_rewrite_keeps",
    ),
    ("words beside calls", ACTIONS, "    turn.forget_words()\n", "", "beside_tool_calls_is_in_no"),
    ("events cleared", ENGINE, "        clear_events(events, turn)\n", "", "rewritten_input_stays"),
    (
        "cache waits",
        ENGINE,
        "        if turn.streaming:\n            turn.waiting",
        "        if False:\n            turn.waiting",
        "blocked_stream_leaves or left_early",
    ),
    (
        "stream ended",
        ENGINE,
        "                _ended(app, run.turn, passed=ended)\n",
        "                pass\n",
        "blocked_stream_leaves or left_early or passed_is_kept",
    ),
    (
        "runnable's input",
        ACTIONS,
        "    if invoked is not None and",
        "    if False and",
        "invoked_with_the_rewrite or cannot_be_carried",
    ),
    (
        "runnable's output",
        ACTIONS,
        "    said |= transcripts.beside(",
        "    transcripts.beside(",
        "gives_beside_its_text",
    ),
    (
        "runnable's output cleared",
        CLEARING,
        "        variables.update(bot_message=turn.refusal, passthrough_output=None)\n",
        "        pass\n",
        "withheld_whatever_its_form",
    ),
    (
        "runnable's rewrite",
        CLEARING,
        "        variables.update(passthrough_output=turn.passthrough[0])\n",
        "        pass\n",
        "rewritten_whatever_its_form",
    ),
    (
        "runnable's context",
        TRANSCRIPTS,
        '            content = content.get("passthrough_input") if isinstance(content, Mapping) else None\n',
        "            content = None\n",
        "would_be_invoked_with",
    ),
    ("chunks both forms", ACTIONS, "else [whole, *separate]", "else [whole]", "chunks_in_both_forms"),
    (
        "single call",
        ENGINE,
        "        if app.config.docs and app.config.rails.dialog.single_call.enabled:",
        "        if False:",
        "one_call_for_everything",
    ),
    ("beside any name", TRANSCRIPTS, "if key in _KEPT}", "if key != 'tool_calls'}", "under_any_name"),
    (
        "subflows",
        LOADING,
        '            elif element.get("_type") == "flow":',
        "            elif False:",
        "subflow_of_their_own",
    ),
    (
        "first action",
        LOADING,
        "for flow in own if _starts_with_us(flow, config)",
        "for flow in own",
        "stands_first_in_a_rail",
    ),
    (
        "exception in check",
        ENGINE,
        "                _as_text(result)\n",
        "                pass\n",
        "rails_exceptions_are_honoured",
    ),
    (
        "load error",
        LOADING,
        "        engine.refuse_to_load(app, error)",
        "        raise",
        "test_a_missing_file or misspelt",
    ),
    (
        "explanation on error",
        ENGINE,
        "                clear_explained(app, turn)  # nobody",
        "                pass  # nobody",
        "cancelled_leaves",
    ),
    (
        "explanation of the turn",
        CLEARING,
        "    for explained in (turn.explained, app._explain_info):",
        "    for explained in ():",
        "rewritten_input_stays or blocked_input_stays",
    ),
    (
        "calls of the turn",
        CLEARING,
        "for call in turn.explained.llm_calls if turn.explained",
        "for call in app._explain_info.llm_calls if turn.explained",
        "each_others_explanation",
    ),
    (
        "pictures in keys",
        TRANSCRIPTS,
        "        _feed(running, message)\n",
        "        _feed(running, [message.get('role'), text_of(message.get('content'))])\n",
        "share_no_history",
    ),
    (
        "2.x carried",
        ENGINE,
        "                _require_carried(messages or [])\n",
        "                pass\n",
        "chunks_and_tool_results_raise",
    ),
    ("2.x streams", ENGINE, "        app.stream_async = _no_streaming\n", "", "test_streaming_raises"),
    (
        "reasoning",
        TRANSCRIPTS,
        '        message["reasoning_content"] = reasoning\n',
        "        pass\n",
        "reasoning_that_would_be_shown",
    ),
    (
        "trailing results judged at once",
        ACTIONS,
        "    results = transcripts.trailing_tools(turn.messages)\n",
        "    results = transcripts.trailing_tools(turn.messages)[:1]\n",
        "unsafe_tool_result_ends",
    ),
    ("flow names", LOADING, "    _require_known_flows(config)\n", "", "misspelt"),
    ("version", LOADING, "    engine.require_supported()\n", "", "unsupported_nemo"),
    ("private parts", ENGINE, "    if missing:\n", "    if False:\n", "without_the_parts"),
    ("importable", "turnguard/nemo/__init__.py", "make_importable()\n", "", "yaml_of_the_design"),
    (
        "stream tells the failure",
        ENGINE,
        "yield error_chunk(await host.guard.arefusal(released.decision)",
        "yield error_chunk(str(released.decision.message)",
        "rewrite_while_streaming",
    ),
    (
        "stream shares the request",
        ENGINE,
        "            turn = Turn(history, transcripts.newest(history))\n",
        "            turn = Turn([], range(0))\n",
        "each_window_is_judged",
    ),
    ("late rails warned", LOADING, "        if late:", "        if False:", "run_too_late"),
    (
        "refused outcome",
        ACTIONS,
        "outcome([turn.screened], refused=turn.refusal)",
        "outcome([turn.screened])",
        "cannot_be_carried",
    ),
    ("own cache", ENGINE, "            _use_own_cache(app)\n", "", "share_no_history or servers_own"),
    (
        "refusal: stop",
        ENGINE,
        'return [*none, told, {"type": "BotIntent", "intent": "stop"}]',
        "return [*none, told]",
        "own_flow_ends_the_turn",
    ),
    (
        "copied",
        ENGINE,
        "_copied(messages) if messages is not None",
        "messages if messages is not None",
        "stays_in_the_callers_own",
    ),
    ("bounded", ENGINE, "        while len(self.kept) > MOST_CACHED:", "        while False:", "cache_is_bounded"),
    (
        "an answer behind another",
        HOST,
        '            return not looked and "output" in on  #',
        "            return False  #",
        "wherever_it_stands",
    ),
    (
        "system message behind the answer",
        ENGINE,
        "        messages = transcripts.ending_in_speech(messages)\n",
        "",
        "wherever_it_stands",
    ),
    (
        "answers to a withheld call",
        HOST,
        "gone.update(transcripts.without_answers_to(turn.messages, turn.messages[index]))",
        "pass",
        "withheld_call_goes",
    ),
]
"""Name, file, what is replaced, by what, and the tests that fail then (as in `pytest -k`)."""


def main(names: list[str]) -> int:
    """How many fixes no test guards."""
    unguarded = 0
    for name, file, old, new, tests in FIXES:
        if names and name not in names:
            continue
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "src")
            shutil.copytree(ROOT / "src", source, ignore=shutil.ignore_patterns("__pycache__"))
            text = (source / file).read_text(encoding="utf-8")
            if old not in text:
                unguarded += 1
                sys.stdout.write(f"{name}: {file} no longer holds what is to be switched off\n")
                continue
            (source / file).write_text(text.replace(old, new), encoding="utf-8")
            failed = _tests(source, tests) == 1
        unguarded += not failed
        sys.stdout.write(f"{name}: {'fails' if failed else 'PASSES'} without it ({tests})\n")
        sys.stdout.flush()
    return unguarded


def _tests(source: Path, selected: str) -> int:
    command = [sys.executable, "-m", "pytest", "tests/nemo", "-q", "-x", "-p", "no:cacheprovider", "-k", selected]
    environment = {**os.environ, "PYTHONPATH": str(source), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
