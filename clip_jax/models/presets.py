"""Named architectures: OpenAI's (paper, tables 19 and 20) and small ones for laptops and tests."""

from clip_jax.models.config import CLIPConfig, TextConfig, ViTConfig


def _vit(embed_dim: int, image: ViTConfig, text_width: int) -> CLIPConfig:
    text = TextConfig(width=text_width, layers=12, heads=text_width // 64)
    return CLIPConfig(embed_dim=embed_dim, image=image, text=text)


OPENAI: dict[str, CLIPConfig] = {
    "ViT-B/32": _vit(512, ViTConfig(224, 32, width=768, layers=12, heads=12), 512),
    "ViT-B/16": _vit(512, ViTConfig(224, 16, width=768, layers=12, heads=12), 512),
    "ViT-L/14": _vit(768, ViTConfig(224, 14, width=1024, layers=24, heads=16), 768),
    "ViT-L/14@336px": _vit(768, ViTConfig(336, 14, width=1024, layers=24, heads=16), 768),
}

SMALL: dict[str, CLIPConfig] = {
    "ViT-tiny": CLIPConfig(
        embed_dim=32,
        image=ViTConfig(image_size=16, patch_size=8, width=32, layers=2, heads=4),
        text=TextConfig(width=32, layers=2, heads=4, context_length=16, vocab_size=64),
    ),
}

PRESETS = OPENAI | SMALL


def available_models() -> list[str]:
    """Names of OpenAI's released models that can be created."""
    return list(OPENAI)
