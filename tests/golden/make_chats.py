#!/usr/bin/env python3
"""Writes chats.bin: the chat templates of models, and what transformers makes of a few conversations with them.

    python3 tests/golden/make_chats.py tests/golden/chats.bin

Per case, all numbers u32 little-endian, texts as length and bytes: family, template, expected text, count of messages,
then role (0 system, 1 user, 2 assistant) and text of each. BOS is <s>, EOS is </s>. Needs transformers, jinja2.
The templates are those that the models' authors publish in tokenizer_config.json.
"""
import struct
import sys

from transformers.utils.chat_template_utils import render_jinja_template

PHI3 = ("{% for message in messages %}{% if message['role'] == 'system' %}{{'<|system|>\\n' + message['content'] + "
        "'<|end|>\\n'}}{% elif message['role'] == 'user' %}{{'<|user|>\\n' + message['content'] + '<|end|>\\n'}}"
        "{% elif message['role'] == 'assistant' %}{{'<|assistant|>\\n' + message['content'] + '<|end|>\\n'}}{% endif "
        "%}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}")
PHI4_MINI = ("{% for message in messages %}{% if message['role'] == 'system' and 'tools' in message and "
             "message['tools'] is not none %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|tool|>' + "
             "message['tools'] + '<|/tool|>' + '<|end|>' }}{% else %}{{ '<|' + message['role'] + '|>' + "
             "message['content'] + '<|end|>' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ "
             "'<|assistant|>' }}{% else %}{{ eos_token }}{% endif %}")
LLAMA2 = ("{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = "
          "messages[0]['content'] %}{% else %}{% set loop_messages = messages %}{% set system_message = false %}"
          "{% endif %}{% for message in loop_messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
          "{{ raise_exception('roles must alternate') }}{% endif %}{% if loop.index0 == 0 and system_message != false "
          "%}{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}{% else %}"
          "{% set content = message['content'] %}{% endif %}{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' "
          "+ content.strip() + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ ' '  + content.strip() + ' ' + "
          "eos_token }}{% endif %}{% endfor %}")
MISTRAL_V1 = ("{%- if messages[0]['role'] == 'system' %}\n    {%- set system_message = messages[0]['content'] %}\n    "
              "{%- set loop_messages = messages[1:] %}\n{%- else %}\n    {%- set loop_messages = messages %}\n"
              "{%- endif %}\n\n{{- bos_token }}\n{%- for message in loop_messages %}\n    {%- if message['role'] == "
              "'user' %}\n        {%- if loop.first and system_message is defined %}\n            {{- ' [INST] ' + "
              "system_message + '\\n\\n' + message['content'] + ' [/INST]' }}\n        {%- else %}\n            {{- ' "
              "[INST] ' + message['content'] + ' [/INST]' }}\n        {%- endif %}\n    {%- elif message['role'] == "
              "'assistant' %}\n        {{- ' ' + message['content'] + eos_token}}\n    {%- endif %}\n{%- endfor %}\n")
MISTRAL_V3 = ("{%- if messages[0][\"role\"] == \"system\" %}\n    {%- set system_message = messages[0][\"content\"] "
              "%}\n    {%- set loop_messages = messages[1:] %}\n{%- else %}\n    {%- set loop_messages = messages "
              "%}\n{%- endif %}\n\n{{- bos_token }}\n{%- for message in loop_messages %}\n    {%- if message[\"role\"] "
              "== \"user\" %}\n        {%- if loop.last and system_message is defined %}\n            "
              "{{- \"[INST]SPACE\" + system_message + \"\\n\\n\" + message[\"content\"] + \"[/INST]\" }}\n        "
              "{%- else %}\n            {{- \"[INST]SPACE\" + message[\"content\"] + \"[/INST]\" }}\n        {%- endif "
              "%}\n    {%- elif message[\"role\"] == \"assistant\" %}\n        {{- ANSWER + eos_token}}\n    {%- endif "
              "%}\n{%- endfor %}\n")
FALCON3 = ("{% for message in messages %}{% if message['role'] == 'system' %}{{ '<|system|>\\n' + message['content'] + "
           "'\\n' }}{% elif message['role'] == 'user' %}{{ '<|user|>\\n' + message['content'] + '\\n' }}{% elif "
           "message['role'] == 'assistant' %}{% if not loop.last %}{{ '<|assistant|>\\n'  + message['content'] + "
           "eos_token + '\\n' }}{% else %}{{ '<|assistant|>\\n'  + message['content'] + eos_token }}{% endif %}"
           "{% endif %}{% if loop.last and add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}{% endfor %}")
FALCON = ("{% for message in messages %}{% if not loop.first %}{{ '\\n' }}{% endif %}{% if message['role'] == 'system' "
          "%}{{ 'System: ' }}{% elif message['role'] == 'user' %}{{ 'User: ' }}{% elif message['role'] == 'assistant' "
          "%}{{ 'Falcon: ' }}{% endif %}{{ message['content'] }}{% endfor %}{% if add_generation_prompt %}{{ '\\n' + "
          "'Falcon:' }}{% endif %}")
DEEPSEEK = ("{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}{{ 'User: ' + "
            "message['content'] + '\\n\\n' }}{% elif message['role'] == 'assistant' %}{{ 'Assistant: ' + "
            "message['content'] + eos_token }}{% elif message['role'] == 'system' %}{{ message['content'] + '\\n\\n' "
            "}}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}")
DEEPSEEK3 = ("{{ bos_token }}{% for message in messages %}{% if message['role'] == 'system' %}{{ message['content'] }}"
             "{% elif message['role'] == 'user' %}{{ '<｜User｜>' + message['content'] }}{% elif message['role'] == "
             "'assistant' %}{{ '<｜Assistant｜>' + message['content'] + eos_token }}{% endif %}{% endfor %}{% if "
             "add_generation_prompt %}{{ '<｜Assistant｜>' }}{% endif %}")
ZEPHYR = ("{% for message in messages %}\n{% if message['role'] == 'user' %}\n{{ '<|user|>\\n' + message['content'] + "
          "eos_token }}\n{% elif message['role'] == 'system' %}\n{{ '<|system|>\\n' + message['content'] + eos_token "
          "}}\n{% elif message['role'] == 'assistant' %}\n{{ '<|assistant|>\\n'  + message['content'] + eos_token "
          "}}\n{% endif %}\n{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n"
          "{% endfor %}")
GEMMA = ("{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set prefix = messages[0]['content'] + '\\n\\n' "
         "%}{% set loop_messages = messages[1:] %}{% else %}{% set prefix = '' %}{% set loop_messages = messages %}"
         "{% endif %}{% for message in loop_messages %}{% if (message['role'] == 'assistant') %}{% set role = 'model' "
         "%}{% else %}{% set role = message['role'] %}{% endif %}{{ '<start_of_turn>' + role + '\\n' + (prefix if "
         "loop.first else '') + message['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}{% if "
         "add_generation_prompt %}{{'<start_of_turn>model\\n'}}{% endif %}")

TEMPLATES = [  # family, template; several lines per family: several models
    ("chatml", "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + "
               "'<|im_end|>' + '\\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}"
               "{% endif %}"),
    ("phi4", "{% for message in messages %}{% if (message['role'] == 'system') %}{{'<|im_start|>system<|im_sep|>' + "
             "message['content'] + '<|im_end|>'}}{% elif (message['role'] == 'user') %}{{'<|im_start|>user<|im_sep|>' "
             "+ message['content'] + '<|im_end|><|im_start|>assistant<|im_sep|>'}}{% elif (message['role'] == "
             "'assistant') %}{{message['content'] + '<|im_end|>'}}{% endif %}{% endfor %}"),
    ("llama3", "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = "
               "'<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + "
               "'<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content "
               "}}{% endfor %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}"),
    ("llama2", LLAMA2),
    ("mistral", "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}{{ '[INST] ' + "
                "message['content'] + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ message['content'] + "
                "eos_token}}{% endif %}{% endfor %}"),
    ("mistral-v1", MISTRAL_V1),
    ("mistral-v3", MISTRAL_V3.replace("SPACE", " ").replace("ANSWER", "\" \" + message[\"content\"]|trim")),
    ("mistral-v3-tekken", MISTRAL_V3.replace("SPACE", "").replace("ANSWER", "message[\"content\"]")),
    ("mistral-v7", "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}{{ '[INST] ' + "
                   "message['content'] + '[/INST]' }}{% elif message['role'] == 'system' %}{{ '[SYSTEM_PROMPT] ' + "
                   "message['content'] + '[/SYSTEM_PROMPT]' }}{% elif message['role'] == 'assistant' %}{{ ' ' + "
                   "message['content'] + eos_token }}{% endif %}{% endfor %}"),
    ("mistral-v7-tekken", "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}{{ '[INST]' + "
                          "message['content'] + '[/INST]' }}{% elif message['role'] == 'system' %}{{ '[SYSTEM_PROMPT]' "
                          "+ message['content'] + '[/SYSTEM_PROMPT]' }}{% elif message['role'] == 'assistant' %}"
                          "{{ message['content'] + eos_token }}{% endif %}{% endfor %}"),
    ("gemma", GEMMA), ("phi3", PHI3), ("zephyr", ZEPHYR), ("falcon", FALCON), ("falcon3", FALCON3),
    ("phi4-mini", PHI4_MINI),
    ("deepseek", DEEPSEEK),
    ("deepseek3", DEEPSEEK3),
]
NO_SYSTEM = {"mistral"}  # that template takes none
ROLES = {"system": 0, "user": 1, "assistant": 2}
TALK = [("user", "Hello"), ("assistant", "Hi there"), ("user", " Who are you? "), ("assistant", "   An assistant   "),
        ("user", "Zwölf Boxkämpfer\n\nsagt man <s> so?</s>")]
CHATS = [TALK[:1], TALK[:3], TALK, [("system", "You are a helpful assistant")] + TALK[:1],
         [("system", " Be short.\n")] + TALK]


def text(value):
    data = value.encode()
    return struct.pack("<I", len(data)) + data


def main():
    n = 0
    with open(sys.argv[1], "wb") as out:
        for family, template in TEMPLATES:
            for chat in CHATS:
                if chat[0][0] == "system" and family in NO_SYSTEM:
                    continue
                messages = [{"role": r, "content": c} for r, c in chat]
                rendered, _ = render_jinja_template([messages], chat_template=template, add_generation_prompt=True,
                                                    bos_token="<s>", eos_token="</s>")
                out.write(text(family) + text(template) + text(rendered[0]) + struct.pack("<I", len(chat)))
                for role, content in chat:
                    out.write(struct.pack("<I", ROLES[role]) + text(content))
                n += 1
    print(n, "conversations in", len(TEMPLATES), "templates")


main()
