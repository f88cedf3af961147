"""Chat templates of present families, and conversations for all of them.

Each template is written for these tests from the family's published description of its prompts (model cards and
tokenizer_config.json of the named models), reduced to text, thoughts and calls; none is a copy. The marks, their order
and what becomes of thoughts are those of the family.
"""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from tests.support.chat_tokenizer import bytes_tokenizer


class Family(NamedTuple):
    """The template of a family."""

    source: str
    """The model whose published prompts the template follows."""
    template: str
    marks: tuple[str, ...]
    """Special tokens."""
    end: str
    """The token that ends an answer."""
    thoughts: bool = False
    """Whether answers have thoughts."""
    tools: bool = True
    """Whether the template writes calls of functions."""
    systems: bool = True
    """Whether the template takes a message of the system."""


DEEPSEEK_MARKS = ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>")
DEEPSEEK_CALLS = "<｜tool▁calls▁begin｜>{% for c in m.tool_calls %}<｜tool▁call▁begin｜>"
SYSTEM_FIRST = "{{ bos_token }}{% for m in messages if m.role == 'system' %}{{ m.content }}{% endfor %}"
R1 = (
    SYSTEM_FIRST + "{% set ns = namespace(outputs=false) %}{% for m in messages %}"
    "{% if m.role == 'user' %}{% set ns.outputs = false %}{{ '<｜User｜>' + m.content }}{% endif %}"
    "{% if m.role == 'assistant' and m.tool_calls %}{% set ns.outputs = false %}<｜Assistant｜>"
    + DEEPSEEK_CALLS
    + "{{ c.type + '<｜tool▁sep｜>' + c.function.name + '\n```json\n' + c.function.arguments + '\n```' }}"
    "<｜tool▁call▁end｜>{% endfor %}<｜tool▁calls▁end｜><｜end▁of▁sentence｜>{% elif m.role == 'assistant' %}"
    "{% if ns.outputs %}{% set ns.outputs = false %}"
    "{{ '<｜tool▁outputs▁end｜>' + m.content + '<｜end▁of▁sentence｜>' }}"
    "{% else %}{{ '<｜Assistant｜>' + m.content.split('</think>')[-1] + '<｜end▁of▁sentence｜>' }}"
    "{% endif %}{% endif %}"
    "{% if m.role == 'tool' %}{% set ns.outputs = true %}"
    "{{ '<｜tool▁outputs▁begin｜><｜tool▁output▁begin｜>' + m.content + '<｜tool▁output▁end｜>' }}{% endif %}"
    "{% endfor %}"
    "{% if ns.outputs %}<｜tool▁outputs▁end｜>{% elif add_generation_prompt %}"
    "{{ '<｜Assistant｜><think>\n' }}{% endif %}"
)
V3_1 = (
    SYSTEM_FIRST + "{% set ns = namespace(asked=false) %}{% for m in messages %}"
    "{% if m.role == 'user' %}{% set ns.asked = true %}{{ '<｜User｜>' + m.content }}{% endif %}"
    "{% if m.role == 'assistant' %}{% if ns.asked %}<｜Assistant｜></think>{% endif %}{% set ns.asked = false %}"
    "{% if m.tool_calls %}{{ '' if m.content is none else m.content + '' }}"
    + DEEPSEEK_CALLS
    + "{{ c.function.name + '<｜tool▁sep｜>' + c.function.arguments }}<｜tool▁call▁end｜>"
    "{% endfor %}<｜tool▁calls▁end｜>"
    "{% else %}{{ m.content.split('</think>', 1)[-1] }}{% endif %}<｜end▁of▁sentence｜>{% endif %}"
    "{% if m.role == 'tool' %}{% set ns.asked = false %}"
    "{{ '<｜tool▁output▁begin｜>' + m.content }}<｜tool▁output▁end｜>"
    "{% endif %}{% endfor %}{% if add_generation_prompt and ns.asked %}<｜Assistant｜></think>{% endif %}"
)
LAST_USER = (
    "{% set ns = namespace(last=-1) %}{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}"
    "{% endif %}{% endfor %}"
)
SPLIT = (
    "{% set content = m.content if m.content is string else '' %}{% set thought = '' %}"
    "{% if m.reasoning_content is string %}{% set thought = m.reasoning_content %}{% elif '</think>' in content %}"
    "{% set thought = content.split('</think>')[0].split('<think>')[-1].strip('\n') %}"
    "{% set content = content.split('</think>')[-1].lstrip('\n') %}{% endif %}"
)
CHATML_TOOLS = (
    "{% if tools %}{{ '<|im_start|>system\n# Tools\n' }}{% for t in tools %}{{ t | tojson + '\n' }}{% endfor %}"
    "<|im_end|>\n{% endif %}"
)
QWEN_CALLS = (
    '{% for c in m.tool_calls or [] %}{{ \'\n<tool_call>\n{"name": "\' + c.function.name + \'", "arguments": \' }}'
    "{{ c.function.arguments if c.function.arguments is string else c.function.arguments | tojson }}"
    "{{ '}\n</tool_call>' }}{% endfor %}"
)
QWEN_TOOL = "{% elif m.role == 'tool' %}{{ '<|im_start|>user\n<tool_response>\n' + m.content + '\n</tool_response>' }}"
CHATML = (
    CHATML_TOOLS + "{% for m in messages %}{% if m.role == 'assistant' %}{{ '<|im_start|>assistant' }}"
    "{% if m.content %}{{ '\n' + m.content }}{% endif %}" + QWEN_CALLS + QWEN_TOOL + "{% else %}"
    "{{ '<|im_start|>' + m.role + '\n' + m.content }}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
QWEN3 = (
    CHATML_TOOLS
    + LAST_USER
    + "{% for m in messages %}{% if m.role == 'assistant' %}"
    + SPLIT
    + "{{ '<|im_start|>assistant\n' }}{% if loop.index0 > ns.last and (loop.last or thought) %}"
    "{{ '<think>\n' + thought.strip('\n') + '\n</think>\n\n' }}{% endif %}{{ content }}"
    + QWEN_CALLS
    + QWEN_TOOL
    + "{% else %}{{ '<|im_start|>' + m.role + '\n' + m.content }}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
QWEN3_THINKING = QWEN3.replace(
    "{{ '<|im_start|>assistant\n' }}{% endif %}", "{{ '<|im_start|>assistant\n<think>\n' }}{% endif %}"
)
MINIMAX = (
    LAST_USER + "{{ ']~!b[]~b]system\n' }}{% for m in messages if m.role == 'system' %}{{ m.content }}{% endfor %}"
    "{% for t in tools or [] %}{{ '<tool>' }}{{ t | tojson }}{{ '</tool>\n' }}{% endfor %}{{ '[e~[\n' }}"
    "{% for m in messages %}{% if m.role == 'assistant' %}"
    + SPLIT
    + "{{ ']~b]ai\n' }}{% if thought and loop.index0 > ns.last %}"
    "{{ '<think>\n' + thought + '\n</think>\n\n' }}{% endif %}"
    "{{ content }}{% if m.tool_calls %}{{ '\n<minimax:tool_call>\n' }}{% for c in m.tool_calls %}"
    "{{ '<invoke name=\"' + c.function.name + '\">\n' }}{% if c.function.arguments is mapping %}"
    "{% for k, v in c.function.arguments | items %}"
    "{{ '<parameter name=\"' + k + '\">' + v | string + '</parameter>' }}"
    "{% endfor %}{% endif %}{{ '</invoke>\n' }}{% endfor %}{{ '</minimax:tool_call>' }}{% endif %}{{ '[e~[\n' }}"
    "{% elif m.role == 'tool' %}{{ ']~b]tool\n<response>' + m.content + '</response>[e~[\n' }}"
    "{% elif m.role == 'user' %}{{ ']~b]user\n' + m.content + '[e~[\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ ']~b]ai\n<think>\n' }}{% endif %}"
)
GLM = (
    LAST_USER
    + "[gMASK]<sop>{% if tools %}{{ '<|system|>\n# Tools\n' }}{% for t in tools %}{{ t | tojson + '\n' }}{% endfor %}"
    "{% endif %}{% for m in messages %}{% if m.role == 'assistant' %}"
    + SPLIT
    + "<|assistant|>{% if loop.index0 > ns.last and thought %}"
    "{{ '\n<think>' + thought.strip() + '</think>' }}{% else %}"
    "{{ '\n<think></think>' }}{% endif %}{% if content.strip() %}{{ '\n' + content.strip() }}{% endif %}"
    "{% for c in m.tool_calls or [] %}{{ '\n<tool_call>' + c.function.name + '\n' }}"
    "{% for k, v in c.function.arguments.items() %}{{ '<arg_key>' + k + '</arg_key>\n<arg_value>' + v | string }}"
    "{{ '</arg_value>\n' }}{% endfor %}{{ '</tool_call>' }}{% endfor %}"
    "{% elif m.role == 'tool' %}{{ '<|observation|>\n<tool_response>\n' + m.content + '\n</tool_response>' }}"
    "{% else %}{{ '<|' + m.role + '|>\n' + m.content }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}{% set role = 'ipython' if m.role == 'tool' else m.role %}"
    "{{ '<|start_header_id|>' + role + '<|end_header_id|>\n\n' }}"
    "{% if loop.first and tools %}{% for t in tools %}{{ t | tojson + '\n' }}{% endfor %}{% endif %}"
    '{% for c in m.tool_calls or [] %}{{ \'{"name": "\' + c.function.name + \'", "parameters": \' }}'
    "{{ c.function.arguments | tojson }}{{ '}' }}{% else %}{{ m.content | trim }}{% endfor %}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
GEMMA3 = (
    "{{ bos_token }}{% set rows = messages %}{% set lead = '' %}{% if messages[0].role == 'system' %}"
    "{% set lead = messages[0].content + '\n\n' %}{% set rows = messages[1:] %}{% endif %}{% for m in rows %}"
    "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}"
    "{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\n' + (lead if loop.first else '') }}"
    "{{ m.content | trim }}{{ '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% if tools %}[AVAILABLE_TOOLS]{{ tools | tojson }}[/AVAILABLE_TOOLS]{% endif %}"
    "{% for m in messages %}"
    "{% if m.role == 'system' %}[SYSTEM_PROMPT]{{ m.content }}[/SYSTEM_PROMPT]{% elif m.role == 'user' %}"
    "[INST]{{ m.content }}[/INST]{% elif m.role == 'tool' %}[TOOL_RESULTS]{{ m.content }}[/TOOL_RESULTS]"
    "{% elif m.tool_calls %}[TOOL_CALLS]{% for c in m.tool_calls %}{{ c.function.name }}[ARGS]"
    "{{ c.function.arguments if c.function.arguments is string else c.function.arguments | tojson }}{% endfor %}</s>"
    "{% else %}{{ m.content }}</s>{% endif %}{% endfor %}"
)
PHI4 = (
    "{% for m in messages %}<|im_start|>{{ m.role }}<|im_sep|>{{ m.content }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant<|im_sep|>{% endif %}"
)
PHI3 = (
    "{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)
GPT_OSS = (
    LAST_USER + "<|start|>system<|message|>Reasoning: medium<|end|>{% for m in messages %}{% if m.role == 'system' %}"
    "<|start|>developer<|message|>{{ m.content }}<|end|>{% elif m.role == 'user' %}"
    "<|start|>user<|message|>{{ m.content }}<|end|>{% elif m.role == 'tool' %}"
    "<|start|>functions to=assistant<|channel|>commentary<|message|>{{ m.content | tojson }}<|end|>{% else %}"
    "{% if m.thinking and loop.index0 > ns.last %}<|start|>assistant<|channel|>analysis<|message|>"
    "{{ m.thinking }}<|end|>"
    "{% endif %}{% if m.tool_calls %}{% set c = m.tool_calls[0].function %}"
    "<|start|>assistant to=functions.{{ c.name }}<|channel|>commentary json<|message|>"
    "{{ c.arguments | tojson }}<|call|>"
    "{% else %}<|start|>assistant<|channel|>final<|message|>{{ m.content }}"
    "{% if loop.last and not add_generation_prompt %}<|return|>{% else %}<|end|>{% endif %}{% endif %}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)
KIMI = (
    "{% if tools %}<|im_system|>tool_declare<|im_middle|>{{ tools | tojson }}<|im_end|>{% endif %}"
    "{% for m in messages %}"
    "{% if m.role == 'user' %}<|im_user|>user<|im_middle|>{% elif m.role == 'assistant' %}"
    "<|im_assistant|>assistant<|im_middle|>{% else %}<|im_system|>{{ m.role }}<|im_middle|>{% endif %}"
    "{{ m.content or '' }}"
    "{% if m.tool_calls %}<|tool_calls_section_begin|>{% for c in m.tool_calls %}<|tool_call_begin|>"
    "{{ 'functions.' + c.function.name }}<|tool_call_argument_begin|>"
    "{{ c.function.arguments if c.function.arguments is string else c.function.arguments | tojson }}<|tool_call_end|>"
    "{% endfor %}<|tool_calls_section_end|>{% endif %}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_assistant|>assistant<|im_middle|>{% endif %}"
)
GRANITE = (
    "{% if tools %}{{ '<|start_of_role|>available_tools<|end_of_role|>' }}{{ tools | tojson }}"
    "{{ '<|end_of_text|>\n' }}"
    "{% endif %}{% for m in messages %}<|start_of_role|>{{ m.role }}<|end_of_role|>{% for c in m.tool_calls or [] %}"
    "{{ '<|tool_call|>' }}{{ {'name': c.function.name, 'arguments': c.function.arguments} | tojson }}{% endfor %}"
    "{{ (m.content or '') + '<|end_of_text|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}<|start_of_role|>assistant<|end_of_role|>{% endif %}"
)
COMMAND = (
    "{{ bos_token }}{% for m in messages %}<|START_OF_TURN_TOKEN|>{{ {'system': '<|SYSTEM_TOKEN|>', 'user': "
    "'<|USER_TOKEN|>', 'assistant': '<|CHATBOT_TOKEN|>'}[m.role] }}{% if m.role == 'assistant' %}<|START_RESPONSE|>"
    "{{ m.content }}<|END_RESPONSE|>{% else %}{{ m.content }}{% endif %}<|END_OF_TURN_TOKEN|>{% endfor %}"
    "{% if add_generation_prompt %}<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>{% endif %}"
)
OLMO2 = (
    "{{ bos_token }}{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content }}{% if m.role == 'assistant' %}"
    "{{ eos_token }}{% endif %}{% if not loop.last %}{{ '\n' }}{% elif add_generation_prompt %}"
    "{{ '\n<|assistant|>\n' }}{% endif %}{% endfor %}"
)
CHATML_MARKS = ("<|im_start|>", "<|im_end|>")
FAMILIES: dict[str, Family] = {
    "deepseek-r1": Family("DeepSeek-R1-Distill-Qwen-32B", R1, DEEPSEEK_MARKS, DEEPSEEK_MARKS[1], True),
    "deepseek-v3.1": Family("DeepSeek-V3.1", V3_1, DEEPSEEK_MARKS, DEEPSEEK_MARKS[1]),
    "qwen2.5": Family("Qwen2.5-7B-Instruct", CHATML, CHATML_MARKS, "<|im_end|>"),
    "qwen3": Family("Qwen3-8B", QWEN3, CHATML_MARKS, "<|im_end|>", True),
    "qwen3-thinking": Family("Qwen3-30B-A3B-Thinking-2507", QWEN3_THINKING, CHATML_MARKS, "<|im_end|>", True),
    "minimax-m2": Family("MiniMax-M2", MINIMAX, ("]~!b[", "]~b]", "[e~["), "[e~[", True),
    "glm-4.6": Family(
        "GLM-4.6", GLM,
        ("[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>", "<|endoftext|>"),
        "<|endoftext|>", True,
    ),
    "llama-3.1": Family(
        "Llama-3.1-8B-Instruct", LLAMA3,
        ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        "<|eot_id|>",
    ),
    "gemma-3": Family(
        "gemma-3-4b-it", GEMMA3, ("<bos>", "<start_of_turn>", "<end_of_turn>"), "<end_of_turn>", tools=False,
    ),
    "mistral-small-3": Family(
        "Mistral-Small-3.2-24B-Instruct", MISTRAL,
        ("<s>", "</s>", "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[TOOL_CALLS]", "[ARGS]"), "</s>",
    ),
    "phi-4": Family("phi-4", PHI4, (*CHATML_MARKS, "<|im_sep|>"), "<|im_end|>", tools=False),
    "phi-3.5": Family(
        "Phi-3.5-mini-instruct", PHI3, ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|endoftext|>"),
        "<|endoftext|>", tools=False,
    ),
    "gpt-oss": Family(
        "gpt-oss-20b", GPT_OSS,
        ("<|start|>", "<|message|>", "<|channel|>", "<|end|>", "<|return|>", "<|call|>"), "<|return|>", True,
    ),
    "kimi-k2": Family(
        "Kimi-K2-Instruct", KIMI, ("<|im_system|>", "<|im_user|>", "<|im_assistant|>", "<|im_middle|>", "<|im_end|>"),
        "<|im_end|>",
    ),
    "granite-3.3": Family(
        "granite-3.3-8b-instruct", GRANITE,
        ("<|start_of_role|>", "<|end_of_role|>", "<|end_of_text|>"), "<|end_of_text|>",
    ),
    "command-r7b": Family(
        "c4ai-command-r7b-12-2024", COMMAND,
        ("<BOS_TOKEN>", "<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>", "<|CHATBOT_TOKEN|>"),
        "<|END_OF_TURN_TOKEN|>",
        tools=False,
    ),
    "olmo-2": Family("OLMo-2-1124-7B-Instruct", OLMO2, ("<|endoftext|>",), "<|endoftext|>", tools=False),
}  # fmt: skip
SYSTEM = {"role": "system", "content": "Answer briefly."}
TOOLS = [{"type": "function", "function": {"name": "free_gpus", "parameters": {"type": "object", "properties": {}}}}]


def tokenizer(family: str) -> Any:
    """Return a tokenizer of bytes with the template and the marks of *family*."""
    chosen = FAMILIES[family]
    result = bytes_tokenizer(chosen.template)
    first = chosen.marks[0]
    result.add_special_tokens(
        {"additional_special_tokens": [*chosen.marks], "eos_token": chosen.end, "bos_token": first}
    )
    return result


def conversations(family: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield 20 conversations by name: one to four turns, with and without system, thoughts and calls."""
    chosen = FAMILIES[family]
    for number in range(20):
        turns, system = 1 + number % 4, bool(number & 4) and chosen.systems
        thinking, calling = number % 3 != 0, number >= 12 and chosen.tools
        messages: list[dict[str, Any]] = [SYSTEM] if system else []
        for turn in range(turns):
            messages.append({"role": "user", "content": f"question {number}.{turn}?"})
            if calling and turn == turns - 1:
                arguments: Any = {"host": f"gpu-{number}"}
                call = {"name": "free_gpus", "arguments": json.dumps(arguments) if number % 2 else arguments}
                messages.append(
                    {"role": "assistant", "tool_calls": [{"type": "function", "id": "c1", "function": call}]}
                )
                messages.append({"role": "tool", "tool_call_id": "c1", "content": f"{number} free"})
            answer: dict[str, Any] = {"role": "assistant", "content": f"answer {number}.{turn}!"}
            if thinking:
                thought = f"thought {number}.{turn}"
                if number % 2:
                    answer["content"] = f"<think>\n{thought}\n</think>\n\n{answer['content']}"
                else:
                    answer[("reasoning_content", "reasoning", "thinking")[number // 2 % 3]] = thought
            messages.append(answer)
        name = f"{number}: {turns} turns" + ", system" * system + ", thought" * thinking + ", call" * calling
        yield name, {"messages": messages, **({"tools": TOOLS} if calling else {})}
