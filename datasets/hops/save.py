"""A trained model as a Hugging Face folder."""

import json

import torch
from safetensors.torch import save_file

from hops import language


def folder(out, model, tokenizer):
    s = model.shape
    tensors = {"model.embed_tokens.weight": model.embedding, "model.norm.weight": model.norm}
    for layer in range(s.layers):
        at = f"model.layers.{layer}."
        tensors |= {
            at + "input_layernorm.weight": model.norm_attention[layer],
            at + "post_attention_layernorm.weight": model.norm_mlp[layer],
            at + "self_attn.q_proj.weight": model.q[layer],
            at + "self_attn.k_proj.weight": model.k[layer],
            at + "self_attn.v_proj.weight": model.v[layer],
            at + "self_attn.o_proj.weight": model.o[layer],
            at + "mlp.gate_proj.weight": model.gate[layer],
            at + "mlp.up_proj.weight": model.up[layer],
            at + "mlp.down_proj.weight": model.down[layer],
        }
    save_file(
        {name: t.detach().to(torch.bfloat16).cpu().contiguous() for name, t in tensors.items()},
        out / "model.safetensors",
        metadata={"format": "pt"},
    )
    end = tokenizer.token_to_id(language.END)
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": s.width,
        "intermediate_size": s.inner,
        "num_hidden_layers": s.layers,
        "num_attention_heads": s.heads,
        "num_key_value_heads": s.kv_heads,
        "head_dim": s.head_dim,
        "vocab_size": s.vocab,
        "max_position_embeddings": 32768,
        "rms_norm_eps": s.eps,
        "rope_theta": s.theta,
        "tie_word_embeddings": True,
        "hidden_act": "silu",
        "bos_token_id": end,
        "eos_token_id": end,
        "torch_dtype": "bfloat16",
    }
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    tokenizer.save(str(out / "tokenizer.json"))
    (out / "tokenizer_config.json").write_text(
        json.dumps({"bos_token": language.END, "eos_token": language.END, "add_bos_token": True})
        + "\n"
    )
