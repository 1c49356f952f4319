"""Small restatements of networks of other packages, with the names that their tensors have there.

They are written from the papers and the packages' tables of names, apart from attar's own networks.
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import nn


def randomised(network, seed=0):
    """The same network with norms and statistics that are not those of a fresh one."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, (nn.BatchNorm2d, nn.LayerNorm)):
                module.weight.uniform_(0.7, 1.3, generator=generator)
                module.bias.normal_(0, 0.1, generator=generator)
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1, generator=generator)
                module.running_var.uniform_(0.7, 1.3, generator=generator)
    return network.eval()


def conv(channels, filters, kernel=3, stride=1, groups=1):
    return nn.Conv2d(channels, filters, kernel, stride, kernel // 2, groups=groups, bias=False)


class Basic(nn.Module):
    def __init__(self, channels, filters, stride, short="downsample"):
        super().__init__()
        self.conv1, self.bn1 = conv(channels, filters, 3, stride), nn.BatchNorm2d(filters)
        self.conv2, self.bn2 = conv(filters, filters), nn.BatchNorm2d(filters)
        self.short = short
        if stride > 1 or channels != filters:
            way = nn.Sequential(conv(channels, filters, 1, stride), nn.BatchNorm2d(filters))
            setattr(self, short, way)

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + getattr(self, self.short, nn.Identity())(x))


class Bottle(nn.Module):
    def __init__(self, channels, filters, stride, short="downsample"):
        super().__init__()
        self.conv1, self.bn1 = conv(channels, filters, 1), nn.BatchNorm2d(filters)
        self.conv2, self.bn2 = conv(filters, filters, 3, stride), nn.BatchNorm2d(filters)
        self.conv3, self.bn3 = conv(filters, 4 * filters, 1), nn.BatchNorm2d(4 * filters)
        self.short = short
        if stride > 1 or channels != 4 * filters:
            setattr(self, short, nn.Sequential(conv(channels, 4 * filters, 1, stride), nn.BatchNorm2d(4 * filters)))

    def forward(self, x):
        y = F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))
        return F.relu(self.bn3(self.conv3(y)) + getattr(self, self.short, nn.Identity())(x))


class ResNet(nn.Module):
    """torchvision's names, and those of CIFAR's: `layer1.0.conv1`, `downsample` or `shortcut`, `fc` or `linear`."""

    def __init__(self, counts, filters, classes, *, block=Basic, stem="small", width=64, short="downsample", last="fc"):
        super().__init__()
        self.large, self.last = stem == "large", last
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False) if self.large else conv(3, width)
        self.bn1 = nn.BatchNorm2d(width)
        channels = width
        for number, (count, wanted) in enumerate(zip(counts, filters, strict=True), start=1):
            blocks = []
            for place in range(count):
                blocks.append(block(channels, wanted, 2 if place == 0 and number > 1 else 1, short))
                channels = wanted * (4 if block is Bottle else 1)
            setattr(self, f"layer{number}", nn.Sequential(*blocks))
        self.stages = len(counts)
        setattr(self, last, nn.Linear(channels, classes))

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.max_pool2d(x, 3, 2, 1) if self.large else x
        for number in range(1, self.stages + 1):
            x = getattr(self, f"layer{number}")(x)
        return getattr(self, self.last)(x.mean(dim=(2, 3)))


class WideBlock(nn.Module):
    def __init__(self, channels, filters, stride):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(channels), conv(channels, filters, 3, stride)
        self.bn2, self.conv2 = nn.BatchNorm2d(filters), conv(filters, filters)
        self.convShortcut = None if channels == filters else conv(channels, filters, 1, stride)

    def forward(self, x):
        active = F.relu(self.bn1(x))
        y = self.conv2(F.relu(self.bn2(self.conv1(active))))
        return y + (x if self.convShortcut is None else self.convShortcut(active))


class Layers(nn.Module):
    def __init__(self, *blocks):
        super().__init__()
        self.layer = nn.Sequential(*blocks)

    def forward(self, x):
        return self.layer(x)


class WideResNet(nn.Module):
    def __init__(self, depth, widening, classes):
        super().__init__()
        count, channels = (depth - 4) // 6, 16
        self.conv1 = conv(3, channels)
        for number, wanted in enumerate((16, 32, 64), start=1):
            blocks = []
            for place in range(count):
                blocks.append(WideBlock(channels, wanted * widening, 2 if place == 0 and number > 1 else 1))
                channels = wanted * widening
            setattr(self, f"block{number}", Layers(*blocks))
        self.bn1, self.fc = nn.BatchNorm2d(channels), nn.Linear(channels, classes)

    def forward(self, x):
        x = self.block3(self.block2(self.block1(self.conv1(x))))
        return self.fc(F.relu(self.bn1(x)).mean(dim=(2, 3)))


class CifarVGG(nn.Module):
    """Blocks without their last activation, which the network has itself."""

    def __init__(self, counts, classes):
        super().__init__()
        channels = 3
        for number, (count, filters) in enumerate(zip(counts, (64, 128, 256, 512, 512), strict=True)):
            layers = []
            for _ in range(count):
                layers += [nn.Conv2d(channels, filters, 3, padding=1), nn.BatchNorm2d(filters), nn.ReLU()]
                channels = filters
            setattr(self, f"block{number}", nn.Sequential(*layers[:-1]))
        self.classifier = nn.Linear(512, classes)

    def forward(self, x):
        for number in range(5):
            x = F.relu(getattr(self, f"block{number}")(x))
            x = F.max_pool2d(x, 2) if number < 3 else x
        return self.classifier(x.mean(dim=(2, 3)))


class CifarMobile(nn.Module):
    class Block(nn.Module):
        def __init__(self, channels, filters, stride, widening):
            super().__init__()
            wide = channels * widening
            self.conv = nn.Sequential(
                *(conv(channels, wide, 1), nn.BatchNorm2d(wide), nn.ReLU()),
                *(conv(wide, wide, 3, stride, wide), nn.BatchNorm2d(wide), nn.ReLU()),
                *(conv(wide, filters, 1), nn.BatchNorm2d(filters)),
            )
            self.same = stride == 1 and channels == filters

        def forward(self, x):
            return x + self.conv(x) if self.same else self.conv(x)

    def __init__(self, classes):
        super().__init__()
        self.conv1, channels = nn.Sequential(conv(3, 16, 3, 2), nn.BatchNorm2d(16), nn.ReLU()), 16
        self.blocks = nn.ModuleList()
        rows = ((1, 8, 1, 1), (6, 12, 2, 1), (6, 16, 3, 2), (6, 32, 4, 2), (6, 48, 3, 1), (6, 80, 3, 2), (6, 160, 1, 1))
        for widening, filters, count, stride in rows:
            row = []
            for place in range(count):
                row.append(self.Block(channels, filters, stride if place == 0 else 1, widening))
                channels = filters
            self.blocks.append(nn.Sequential(*row))
        self.conv2 = nn.Sequential(conv(channels, 1280, 1), nn.BatchNorm2d(1280), nn.ReLU())
        self.classifier = nn.Sequential(nn.Linear(1280, classes))

    def forward(self, x):
        x = self.conv1(x)
        for block in self.blocks:
            x = block(x)
        return self.classifier(self.conv2(x).mean(dim=(2, 3)))


def shuffled(x, groups):
    count, channels, height, width = x.shape
    return x.view(count, groups, channels // groups, height, width).transpose(1, 2).reshape(x.shape)


class ShuffleV1(nn.Module):
    class Block(nn.Module):
        def __init__(self, channels, filters, stride):
            super().__init__()
            narrow, self.stride, self.groups = filters // 4, stride, 1 if channels == 24 else 3
            self.conv1, self.bn1 = conv(channels, narrow, 1, groups=self.groups), nn.BatchNorm2d(narrow)
            self.conv2, self.bn2 = conv(narrow, narrow, 3, stride, narrow), nn.BatchNorm2d(narrow)
            self.conv3, self.bn3 = conv(narrow, filters, 1, groups=3), nn.BatchNorm2d(filters)

        def forward(self, x):
            y = shuffled(F.relu(self.bn1(self.conv1(x))), self.groups)
            y = self.bn3(self.conv3(F.relu(self.bn2(self.conv2(y)))))
            return F.relu(torch.cat([y, F.avg_pool2d(x, 3, 2, 1)], 1) if self.stride == 2 else y + x)

    def __init__(self, classes):
        super().__init__()
        self.conv1, self.bn1, channels = conv(3, 24, 1), nn.BatchNorm2d(24), 24
        for number, (filters, count) in enumerate(((240, 4), (480, 8), (960, 4)), start=1):
            blocks = [self.Block(channels, filters - channels, 2)]
            blocks += [self.Block(filters, filters, 1) for _ in range(count - 1)]
            setattr(self, f"layer{number}", nn.Sequential(*blocks))
            channels = filters
        self.linear = nn.Linear(channels, classes)

    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(F.relu(self.bn1(self.conv1(x))))))
        return self.linear(x.mean(dim=(2, 3)))


class ShuffleV2(nn.Module):
    class Down(nn.Module):
        def __init__(self, channels, filters):
            super().__init__()
            half = filters // 2
            self.conv1, self.bn1 = conv(channels, channels, 3, 2, channels), nn.BatchNorm2d(channels)
            self.conv2, self.bn2 = conv(channels, half, 1), nn.BatchNorm2d(half)
            self.conv3, self.bn3 = conv(channels, half, 1), nn.BatchNorm2d(half)
            self.conv4, self.bn4 = conv(half, half, 3, 2, half), nn.BatchNorm2d(half)
            self.conv5, self.bn5 = conv(half, half, 1), nn.BatchNorm2d(half)

        def forward(self, x):
            left = F.relu(self.bn2(self.conv2(self.bn1(self.conv1(x)))))
            right = self.bn4(self.conv4(F.relu(self.bn3(self.conv3(x)))))
            return shuffled(torch.cat([left, F.relu(self.bn5(self.conv5(right)))], 1), 2)

    class Split(nn.Module):
        def __init__(self, channels):
            super().__init__()
            half = channels // 2
            self.conv1, self.bn1 = conv(half, half, 1), nn.BatchNorm2d(half)
            self.conv2, self.bn2 = conv(half, half, 3, 1, half), nn.BatchNorm2d(half)
            self.conv3, self.bn3 = conv(half, half, 1), nn.BatchNorm2d(half)

        def forward(self, x):
            kept, y = x.chunk(2, 1)
            y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(y)))))
            return shuffled(torch.cat([kept, F.relu(self.bn3(self.conv3(y)))], 1), 2)

    def __init__(self, classes):
        super().__init__()
        self.conv1, self.bn1, channels = conv(3, 24, 1), nn.BatchNorm2d(24), 24
        for number, (filters, count) in enumerate(((116, 3), (232, 7), (464, 3)), start=1):
            blocks = [self.Down(channels, filters), *(self.Split(filters) for _ in range(count))]
            setattr(self, f"layer{number}", nn.Sequential(*blocks))
            channels = filters
        self.conv2, self.bn2, self.linear = conv(464, 1024, 1), nn.BatchNorm2d(1024), nn.Linear(1024, classes)

    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(F.relu(self.bn1(self.conv1(x))))))
        return self.linear(F.relu(self.bn2(self.conv2(x))).mean(dim=(2, 3)))


class VGG(nn.Module):
    """torchvision's: one `features` with the poolings in it, and three linear layers with dropout."""

    def __init__(self, counts, classes, *, normed, hidden):
        super().__init__()
        layers, channels = [], 3
        for count, filters in zip(counts, (64, 128, 256, 512, 512), strict=True):
            for _ in range(count):
                layers.append(nn.Conv2d(channels, filters, 3, padding=1))
                layers += [nn.BatchNorm2d(filters)] if normed else []
                layers.append(nn.ReLU())
                channels = filters
            layers.append(nn.MaxPool2d(2))
        self.features, self.avgpool = nn.Sequential(*layers), nn.AdaptiveAvgPool2d(7)
        first = (nn.Linear(512 * 49, hidden), nn.ReLU(), nn.Dropout())
        second = (nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout())
        self.classifier = nn.Sequential(*first, *second, nn.Linear(hidden, classes))

    def forward(self, x):
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


MOBILE_V2 = (
    (3, 1, 16, 1, 1),
    (3, 6, 24, 2, 2),
    (3, 6, 32, 3, 2),
    (3, 6, 64, 4, 2),
    (3, 6, 96, 3, 1),
    (3, 6, 160, 3, 2),
    (3, 6, 320, 1, 1),
)
LITE_0 = (
    (3, 1, 16, 1, 1),
    (3, 6, 24, 2, 2),
    (5, 6, 40, 2, 2),
    (3, 6, 80, 3, 2),
    (5, 6, 112, 3, 1),
    (5, 6, 192, 4, 2),
    (3, 6, 320, 1, 1),
)


def act(channels, filters, kernel=3, stride=1, groups=1):
    return nn.Sequential(conv(channels, filters, kernel, stride, groups), nn.BatchNorm2d(filters), nn.ReLU6())


class MobileNetV2(nn.Module):
    """torchvision's: one `features`, blocks with `conv`, and a classifier behind dropout."""

    class Block(nn.Module):
        def __init__(self, channels, filters, stride, widening):
            super().__init__()
            wide = channels * widening
            layers = [act(channels, wide, 1)] if widening > 1 else []
            self.conv = nn.Sequential(
                *layers, act(wide, wide, 3, stride, wide), conv(wide, filters, 1), nn.BatchNorm2d(filters)
            )
            self.same = stride == 1 and channels == filters

        def forward(self, x):
            return x + self.conv(x) if self.same else self.conv(x)

    def __init__(self, classes):
        super().__init__()
        layers, channels = [act(3, 32, 3, 2)], 32
        for _, widening, filters, count, stride in MOBILE_V2:
            for place in range(count):
                layers.append(self.Block(channels, filters, stride if place == 0 else 1, widening))
                channels = filters
        self.features = nn.Sequential(*layers, act(channels, 1280, 1))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, classes))

    def forward(self, x):
        return self.classifier(self.features(x).mean(dim=(2, 3)))


class Same(nn.Conv2d):
    """TensorFlow's SAME."""

    def forward(self, x):
        height, width = (
            max((-(-s // self.stride[0]) - 1) * self.stride[0] + self.kernel_size[0] - s, 0) for s in x.shape[2:]
        )
        x = F.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2))
        return F.conv2d(x, self.weight, None, self.stride, 0, 1, self.groups)


def same_conv(channels, filters, kernel, stride=1, groups=1):
    return Same(channels, filters, kernel, stride, groups=groups, bias=False)


class Residual(nn.Module):
    """timm's blocks (`conv_pw`, `conv_dw`, `conv_pwl`), or those of efficientnet-lite-pytorch."""

    NAMES: ClassVar = {
        "timm": ("conv_pw", "bn1", "conv_dw", "bn2", "conv_pwl", "bn3"),
        "timm first": ("", "", "conv_dw", "bn1", "conv_pw", "bn2"),
        "lite": ("_expand_conv", "_bn0", "_depthwise_conv", "_bn1", "_project_conv", "_bn2"),
    }

    def __init__(self, channels, kernel, widening, filters, stride, names, kind, eps):
        super().__init__()
        names = self.NAMES["timm first" if names == "timm" and widening == 1 else names]
        wide = channels * widening
        convolution = same_conv if kind is Same else conv
        made = [
            *((convolution(channels, wide, 1), nn.BatchNorm2d(wide, eps)) if widening > 1 else (None, None)),
            *(convolution(wide, wide, kernel, stride, wide), nn.BatchNorm2d(wide, eps)),
            *(convolution(wide, filters, 1), nn.BatchNorm2d(filters, eps)),
        ]
        self.names = [name for name, module in zip(names, made, strict=True) if module is not None]
        for name, module in zip(names, made, strict=True):
            if module is not None:
                setattr(self, name, module)
        self.same = stride == 1 and channels == filters

    def forward(self, x):
        y = x
        for place, name in enumerate(self.names):
            y = getattr(self, name)(y)
            y = F.relu6(y) if place % 2 and place + 1 < len(self.names) else y
        return x + y if self.same else y


class Residuals(nn.Module):
    """A network of such blocks: MobileNetV2 or EfficientNet-Lite0."""

    def __init__(self, rows, classes, *, names, same=False, eps=1e-5):
        super().__init__()
        kind, self.flat = Same if same else nn.Conv2d, names == "lite"
        stem = Same(3, 32, 3, 2, bias=False) if same else conv(3, 32, 3, 2)
        blocks, channels = [], 32
        for kernel, widening, filters, count, stride in rows:
            row = []
            for place in range(count):
                first = stride if place == 0 else 1
                row.append(Residual(channels, kernel, widening, filters, first, names, kind, eps))
                channels = filters
            blocks.append(row)
        self.parts = (
            ("_conv_stem", "_bn0", "_conv_head", "_bn1", "_fc", "_blocks")
            if self.flat
            else ("conv_stem", "bn1", "conv_head", "bn2", "classifier", "blocks")
        )
        flat = [block for row in blocks for block in row]
        nested = nn.ModuleList(flat) if self.flat else nn.Sequential(*(nn.Sequential(*row) for row in blocks))
        made = (stem, nn.BatchNorm2d(32, eps), conv(channels, 1280, 1), nn.BatchNorm2d(1280, eps))
        for name, module in zip(self.parts, (*made, nn.Linear(1280, classes), nested), strict=True):
            setattr(self, name, module)

    def forward(self, x):
        stem, stem_norm, head, head_norm, last, blocks = (getattr(self, name) for name in self.parts)
        x = F.relu6(stem_norm(stem(x)))
        for block in blocks:
            x = block(x)
        return last(F.relu6(head_norm(head(x))).mean(dim=(2, 3)))


class TimmViT(nn.Module):
    class Block(nn.Module):
        def __init__(self, width, heads):
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
            self.attn, self.mlp, self.heads = nn.Module(), nn.Module(), heads
            self.attn.qkv, self.attn.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.mlp.fc1, self.mlp.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

        def forward(self, x):
            count, tokens, width = x.shape
            parts = self.attn.qkv(self.norm1(x)).reshape(count, tokens, 3, self.heads, width // self.heads)
            query, key, value = parts.permute(2, 0, 3, 1, 4)
            weights = (query @ key.transpose(2, 3) * (width // self.heads) ** -0.5).softmax(dim=3)
            x = x + self.attn.proj((weights @ value).transpose(1, 2).reshape(count, tokens, width))
            return x + self.mlp.fc2(F.gelu(self.mlp.fc1(self.norm2(x))))

    def __init__(self, classes, *, width=384, heads=6, side=32):
        super().__init__()
        self.cls_token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, 1 + (side // 16) ** 2, width))
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, width, 16, 16)
        self.blocks = nn.Sequential(*(self.Block(width, heads) for _ in range(12)))
        self.norm, self.head = nn.LayerNorm(width, eps=1e-6), nn.Linear(width, classes)

    def forward(self, x):
        x = self.patch_embed.proj(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + self.pos_embed
        return self.head(self.norm(self.blocks(x))[:, 0])


class TorchvisionViT(nn.Module):
    class Block(nn.Module):
        def __init__(self, width, heads):
            super().__init__()
            self.ln_1, self.ln_2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
            self.self_attention = nn.MultiheadAttention(width, heads, batch_first=True)
            self.mlp = nn.Sequential(
                nn.Linear(width, 4 * width), nn.GELU(), nn.Dropout(0.0), nn.Linear(4 * width, width), nn.Dropout(0.0)
            )

        def forward(self, x):
            y = self.ln_1(x)
            x = x + self.self_attention(y, y, y, need_weights=False)[0]
            return x + self.mlp(self.ln_2(x))

    def __init__(self, classes, *, width=768, heads=12, side=32):
        super().__init__()
        self.class_token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.conv_proj = nn.Conv2d(3, width, 16, 16)
        self.encoder, self.heads = nn.Module(), nn.Module()
        self.encoder.pos_embedding = nn.Parameter(0.02 * torch.randn(1, 1 + (side // 16) ** 2, width))
        self.encoder.layers = nn.Module()
        for number in range(12):
            setattr(self.encoder.layers, f"encoder_layer_{number}", self.Block(width, heads))
        self.encoder.ln, self.heads.head = nn.LayerNorm(width, eps=1e-6), nn.Linear(width, classes)

    def forward(self, x):
        x = self.conv_proj(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_token.expand(len(x), -1, -1), x], dim=1) + self.encoder.pos_embedding
        for number in range(12):
            x = getattr(self.encoder.layers, f"encoder_layer_{number}")(x)
        return self.heads.head(self.encoder.ln(x)[:, 0])


class Conv(nn.Module):
    """RDED's ConvNet: lists of convolutions, norms, activations and poolings."""

    def __init__(self, depth, classes, side=32):
        super().__init__()
        channels = [3] + [128] * depth
        self.layers = nn.ModuleDict(
            {
                "conv": nn.ModuleList(nn.Conv2d(a, 128, 3, padding=1) for a in channels[:-1]),
                "norm": nn.ModuleList(nn.BatchNorm2d(128) for _ in range(depth)),
            }
        )
        self.classifier = nn.Linear(128 * (side // 2**depth) ** 2, classes)

    def forward(self, x):
        for layer, norm in zip(self.layers["conv"], self.layers["norm"], strict=True):
            x = F.avg_pool2d(F.relu(norm(layer(x))), 2)
        return self.classifier(x.flatten(1))
