"""Named architectures: OpenAI's (paper, tables 19 and 20) and small ones for laptops and tests."""

from clip_jax.models.config import CLIPConfig, ResNetConfig, TextConfig, ViTConfig


def _openai(embed_dim: int, image: ViTConfig | ResNetConfig, text_width: int) -> CLIPConfig:
    text = TextConfig(width=text_width, layers=12, heads=text_width // 64)
    return CLIPConfig(embed_dim=embed_dim, image=image, text=text)


OPENAI: dict[str, CLIPConfig] = {
    "RN50": _openai(1024, ResNetConfig(224, width=64, layers=(3, 4, 6, 3), heads=32), 512),
    "RN101": _openai(512, ResNetConfig(224, width=64, layers=(3, 4, 23, 3), heads=32), 512),
    "RN50x4": _openai(640, ResNetConfig(288, width=80, layers=(4, 6, 10, 6), heads=40), 640),
    "RN50x16": _openai(768, ResNetConfig(384, width=96, layers=(6, 8, 18, 8), heads=48), 768),
    "RN50x64": _openai(1024, ResNetConfig(448, width=128, layers=(3, 15, 36, 10), heads=64), 1024),
    "ViT-B/32": _openai(512, ViTConfig(224, 32, width=768, layers=12, heads=12), 512),
    "ViT-B/16": _openai(512, ViTConfig(224, 16, width=768, layers=12, heads=12), 512),
    "ViT-L/14": _openai(768, ViTConfig(224, 14, width=1024, layers=24, heads=16), 768),
    "ViT-L/14@336px": _openai(768, ViTConfig(336, 14, width=1024, layers=24, heads=16), 768),
}

SMALL: dict[str, CLIPConfig] = {
    "ViT-tiny": CLIPConfig(
        embed_dim=32,
        image=ViTConfig(image_size=16, patch_size=8, width=32, layers=2, heads=4),
        text=TextConfig(width=32, layers=2, heads=4, context_length=16, vocab_size=64),
    ),
    "RN-tiny": CLIPConfig(
        embed_dim=32,
        image=ResNetConfig(image_size=32, width=8, layers=(1, 2, 1, 1), heads=4),
        text=TextConfig(width=32, layers=2, heads=4, context_length=16, vocab_size=64),
    ),
}

PRESETS = OPENAI | SMALL


def available_models() -> list[str]:
    """Names of OpenAI's nine released models, for load and create."""
    return list(OPENAI)
