# %% [markdown] lang="zh"
# # LeNet 认手写数字：两种实现，逐步对照 {#lenet-digits}
#
# 同一个 LeNet，从同样的初始权重出发，按同样的顺序看同样的图片，训练两遍：一遍只用 NumPy，反向传播全部手写；一遍用 PyTorch。两条损失曲线重合，两个网络都认对了 97% 以上的测试图。
#
# 这个实验回答六个问题：
#
# - 8×8 的图怎样变成 LeNet 要的 28×28？
# - 手写的梯度与自动求导的梯度相差多少？
# - 两条损失曲线重合到第几位数字？为什么换成单精度就会分开？
# - 第一层学到的卷积核与手工的边缘核有几分像？
# - 为什么有些特征图会熄灭，熄灭以后还能不能重新亮起来？
# - 网络认错了哪些字？换一批人来写，成绩会掉多少？
#
# 卷积的原理见[卷积](../concepts/convolution.md)，网络的结构见 [LeNet](../networks/lenet.md)。

# %% [markdown] lang="en"
# # LeNet reads digits: two implementations, step by step {#lenet-digits}
#
# One LeNet is trained twice, from the same initial weights, on the same images
# in the same order: once with NumPy alone and backpropagation written by hand,
# once with PyTorch. The two loss curves coincide, and both networks read more
# than 97% of the test digits.
#
# The lab answers six questions:
#
# - How do 8×8 images become the 28×28 that LeNet takes?
# - How far are hand-written gradients from those of automatic differentiation?
# - To how many digits do the two loss curves agree, and why do they part in
#   single precision?
# - How much do the learned kernels of the first layer resemble hand-made edge
#   kernels?
# - Why do some feature maps go dark, and can a dark one light up again?
# - Which digits does the network get wrong, and how much worse does it do when
#   other people hold the pen?
#
# For convolution itself see [Convolution](../concepts/convolution.md), for the
# network's structure [LeNet](../networks/lenet.md).

# %% [markdown] lang="zh"
# ## 准备 {#setup}
#
# 数字图片随 scikit-learn 一起安装，不必下载任何文件。

# %% [markdown] lang="en"
# ## Preparation {#setup}
#
# The digits come with scikit-learn; nothing is downloaded.

# %%
from itertools import islice

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.colors import LinearSegmentedColormap
from sklearn.datasets import load_digits
from threadpoolctl import threadpool_limits
from torch import nn

from snippets.core.activation import relu, relu_backward, softmax
from snippets.core.conv import conv2d, conv2d_backward
from snippets.core.linear import linear, linear_backward
from snippets.core.loss import cross_entropy, cross_entropy_backward
from snippets.core.pool import max_pool2d, max_pool2d_backward
from snippets.networks.lenet import LeNet

# 〔层很小，单线程反而最快｜Layers this small run fastest on one thread.〕
threadpool_limits(1)
torch.set_num_threads(1)

# %% [markdown] lang="zh"
# ## 数据：从 8×8 到 28×28 {#data}
#
# 这是 1998 年公开的真实手写数字。原图为 32×32 的黑白点阵，切成 4×4 的小块，数出每块有几个黑点，就得到 8×8 的图，每个像素取 0 到 16（Alpaydin 与 Kaynak，1998）。
#
# LeNet 要 28×28 的输入。办法分两步，都不含随机性：先用双线性插值放大到三倍，成为 24×24；再在四周各补 2 个像素的背景。双线性插值可以写成一个矩阵：`stretch` 的每一列说明一个新像素由哪些旧像素、按多大比例混合而成；左乘一次处理行，右乘一次处理列。代码中的断言把结果与 PyTorch 自带的插值对照。
#
# 放大不增加信息，只是让 5×5 的卷积核有滑动的余地。
#
# 接着打乱次序，取五分之一作测试集，其余用来训练。像素再减去训练集的平均值、除以训练集的标准差。

# %% [markdown] lang="en"
# ## The data: from 8×8 to 28×28 {#data}
#
# These are real handwritten digits, published in 1998. Each was a bitmap of
# 32×32; cut into blocks of 4×4, with the dark dots of each block counted, it
# becomes 8×8 pixels from 0 to 16 (Alpaydin and Kaynak, 1998).
#
# LeNet takes 28×28. We get there in two steps, neither of them random: bilinear
# interpolation enlarges three times, to 24×24; then 2 pixels of background are
# added on each side. Bilinear interpolation is a matrix: each column of
# `stretch` says which old pixels are mixed into one new pixel, and in what
# proportion. Multiplying from the left treats the rows, from the right the
# columns. The assertion compares the result with PyTorch's own interpolation.
#
# Enlarging adds no information. It only gives 5×5 kernels room to slide.
#
# Then we shuffle, keep a fifth for the test and train on the rest. From each
# pixel we subtract the mean of the training images, and divide by their
# standard deviation.

# %%
digits = load_digits()
labels = digits.target

# 〔新像素的中心落在旧坐标的何处｜where new pixel centres fall on the old grid〕
centres = (np.arange(24) + 0.5) / 3 - 0.5
stretch = np.stack([np.interp(centres, range(8), row) for row in np.eye(8)])
large = stretch.T @ (digits.images / 16) @ stretch  # (1797, 24, 24)

small = torch.from_numpy(digits.images / 16)[:, None]
oracle = nn.functional.interpolate(small, scale_factor=3, mode="bilinear")
assert np.allclose(large, oracle[:, 0].numpy())

large = np.pad(large, ((0, 0), (2, 2), (2, 2)))[:, None]  # (1797, 1, 28, 28)


def standardize(chosen):
    """〔用 `chosen` 的均值和标准差缩放｜Scale by mean and deviation of `chosen`〕"""
    return (large - large[chosen].mean()) / large[chosen].std()


order = np.random.default_rng(0).permutation(len(labels))
test, train = order[:360], order[360:]
images = standardize(train)
print(f"〔训练图片：｜training images: 〕{len(train)}")
print(f"〔测试图片：｜test images: 〕{len(test)}")


# %%
def picture(ax, image, colour, **more):
    """〔画一张图，用角色的颜色加框｜Draw an image, framed in its role's colour〕"""
    ax.imshow(image, clip_on=False, **more)
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set(visible=True, color=colour)


firsts = [train[labels[train] == digit][0] for digit in range(10)]
fig, axes = plt.subplots(2, 2, figsize=(6.4, 2.9))
fig.suptitle(
    "〔同一批数字：文件里的，和输入网络的｜The same digits: in the file, and as the network gets them〕"
)
for half, (above, below) in zip((firsts[:5], firsts[5:]), axes.T, strict=True):
    picture(above, np.hstack(digits.images[half]), "C0")
    picture(below, np.hstack(large[half, 0]).round(1), "C0")
    above.set_title("8 × 8")
    below.set_title("28 × 28")

# %% [markdown] lang="zh" caption=true
# 训练集里每个数字的第一张。上排是文件中的 8×8 像素，下排是放大并补边之后的 28×28。
#
# 两排灰度图，背景为黑，笔画为白。上排的数字由粗大的方块拼成，下排是同样的数字，边缘平滑，四周多一圈黑边。

# %% [markdown] lang="en" caption=true
# The first of each digit in the training set: above with the 8×8 pixels of the
# file, below enlarged and padded to 28×28.
#
# Two rows of grey images, white strokes on black. Above, the digits consist of
# coarse squares; below, the same digits have smooth edges and a black margin.

# %% [markdown] lang="zh"
# ## 手写的网络 {#network}
#
# 前向传播把每一步的输入留下来，因为反向传播要用：卷积要知道它看到了什么，ReLU 要知道哪里是正的，最大池化要知道最大值在哪里。`backward` 按相反的次序走过 `forward` 的各层，每层一条语句：输出的梯度 `dy` 进去，输入的梯度出来；有参数的层同时给出参数的梯度。
#
# `step` 是带动量的随机梯度下降：速度等于旧速度的 0.9 倍加上新梯度，权重逆着速度走一小步。PyTorch 的 `SGD` 用的是同一个式子。

# %% [markdown] lang="en"
# ## The network by hand {#network}
#
# On the way forward each step keeps its input, because the way back needs it: a
# convolution must know what it saw, ReLU where it was positive, max pooling
# where the maximum stood. `backward` takes the layers of `forward` in reverse,
# one statement each: in goes the gradient `dy` of a layer's output, out comes
# that of its input, and layers with parameters also give the gradients of those.
#
# `step` is stochastic gradient descent with momentum: the velocity is 0.9 times
# the old one plus the new gradient, and the weights take a small step against
# it. PyTorch's `SGD` uses the same formula.

# %%
LAYERS = "conv1", "conv2", "fc1", "fc2", "fc3"


class NumpyLeNet:
    """〔同一个 LeNet，前向和反向都手写｜The same LeNet, by hand both ways〕"""

    def __init__(self, start, dtype):
        def load(kind):
            return {
                k: start[f"{k}.{kind}"].numpy().astype(dtype) for k in LAYERS
            }

        self.w, self.b = load("weight"), load("bias")
        self.vw, self.vb = dict.fromkeys(LAYERS, 0), dict.fromkeys(LAYERS, 0)

    def forward(self, x):
        w, b = self.w, self.b
        self.x = x  # (n, 1, 28, 28)
        self.z1 = conv2d(x, w["conv1"], b["conv1"], padding=2)
        self.a1 = relu(self.z1)  # (n, 6, 28, 28)
        self.m1, self.i1 = max_pool2d(self.a1, 2, return_indices=True)
        self.z2 = conv2d(self.m1, w["conv2"], b["conv2"])
        self.a2 = relu(self.z2)  # (n, 16, 10, 10)
        self.m2, self.i2 = max_pool2d(self.a2, 2, return_indices=True)
        self.flat = self.m2.reshape(len(x), -1)  # (n, 400)
        self.z3 = linear(self.flat, w["fc1"], b["fc1"])
        self.a3 = relu(self.z3)  # (n, 120)
        self.z4 = linear(self.a3, w["fc2"], b["fc2"])
        self.a4 = relu(self.z4)  # (n, 84)
        return linear(self.a4, w["fc3"], b["fc3"])  # (n, 10)

    def backward(self, dy):
        w, dw, db = self.w, {}, {}
        dy, dw["fc3"], db["fc3"] = linear_backward(dy, self.a4, w["fc3"])
        dy = relu_backward(dy, self.z4)
        dy, dw["fc2"], db["fc2"] = linear_backward(dy, self.a3, w["fc2"])
        dy = relu_backward(dy, self.z3)
        dy, dw["fc1"], db["fc1"] = linear_backward(dy, self.flat, w["fc1"])
        dy = dy.reshape(self.m2.shape)
        dy = max_pool2d_backward(dy, self.i2, self.a2.shape)
        dy = relu_backward(dy, self.z2)
        dy, dw["conv2"], db["conv2"] = conv2d_backward(dy, self.m1, w["conv2"])
        dy = max_pool2d_backward(dy, self.i1, self.a1.shape)
        dy = relu_backward(dy, self.z1)
        _, dw["conv1"], db["conv1"] = conv2d_backward(
            dy, self.x, w["conv1"], padding=2
        )
        return dw, db

    def convolutions(self):
        return [(self.w[k].copy(), self.b[k].copy()) for k in LAYERS[:2]]

    def step(self, x, y, rate):
        logits = self.forward(x)
        dw, db = self.backward(cross_entropy_backward(logits, y))
        for p, v, g in ((self.w, self.vw, dw), (self.b, self.vb, db)):
            for layer in LAYERS:
                v[layer] = 0.9 * v[layer] + g[layer]
                p[layer] -= rate * v[layer]
        return float(cross_entropy(logits, y))


# %% [markdown] lang="zh"
# ## 先走一步：核对梯度 {#gradients}
#
# 训练之前先核对一次。两个网络拿到相同的权重和相同的 32 张图，各算一次梯度。表中是每组参数上最大的差，除以该组最大的梯度。双精度浮点数大约有 16 位有效数字，如果两边算的是同一个梯度，剩下的差就只有舍入误差那么大。

# %% [markdown] lang="en"
# ## One step first: the gradients {#gradients}
#
# Before training, check once. Both networks get the same weights
# and the same 32 images, and each computes its gradients. The table gives, for
# each group of parameters, the largest difference divided by its largest
# gradient. Double precision carries about 16 significant digits: if both compute
# the same gradients, the difference is no larger than rounding.

# %%
torch.manual_seed(0)
start = LeNet().state_dict()

ours = NumpyLeNet(start, "float64")
theirs = LeNet().double()
theirs.load_state_dict(start)

x, y = images[train[:32]], labels[train[:32]]
dw, db = ours.backward(cross_entropy_backward(ours.forward(x), y))
logits = theirs(torch.from_numpy(x))
nn.functional.cross_entropy(logits, torch.from_numpy(y)).backward()

print(
    "| 〔参数｜Parameters〕 | 〔形状｜Shape〕 | 〔个数｜Count〕 | 〔误差｜Error〕 |"
)
print("| :-- | :-- | --: | --: |")
total, worst = 0, 0
for name, parameter in theirs.named_parameters():
    layer, kind = name.split(".")
    exact = parameter.grad.numpy()
    gradient = {"weight": dw, "bias": db}[kind][layer]
    error = np.abs(gradient - exact).max() / np.abs(exact).max()
    total, worst = total + exact.size, max(worst, error)
    shape = " × ".join(map(str, exact.shape))
    print(f"| `{name}` | {shape} | {exact.size:,} | {error:.0e} |")
print(f"| 〔合计与最大｜Total, largest〕 | | {total:,} | {worst:.0e} |")

assert total == 61_706
assert worst < 1e-12

# %% [markdown] lang="zh" caption=true
# 每组参数的梯度：手写的与自动求导的最大差，除以该组最大的梯度。

# %% [markdown] lang="en" caption=true
# The gradient of each group of parameters: the largest difference between
# the two computations, divided by the largest gradient of the group.

# %% [markdown] lang="zh"
# ## 一起训练 {#training}
#
# 要让两条曲线可以比较，两边看到的东西必须一模一样。`batches` 把一切随机的决定都做完：每一轮打乱次序，每 32 张图为一个小批量，每个小批量整体平移最多 2 个像素。四周补的背景正好宽 2 个像素，所以 `np.roll` 从一边推出去、从另一边绕回来的只有背景。平移使不多的图显得更多样，这是一种简单的数据增强。学习率从 0.03 直线降到 0。
#
# `train_both` 让两个网络同步前进：每个小批量各走一步，记下各自的损失。它还记下两件平时看不到的东西：两边的 ReLU 有多少个作出了不同的决定，一边放行而另一边拦下；以及每一步之前两个卷积层的权重，后面要用它们追查哪些特征图熄灭过。

# %% [markdown] lang="en"
# ## Training side by side {#training}
#
# Curves can only be compared when both sides see exactly the same. `batches`
# makes all random decisions: it shuffles in each epoch, takes 32 images at a
# time, and shifts each mini-batch as a whole by up to 2 pixels. The added
# background is 2 pixels wide, so what `np.roll` pushes out at one edge and
# brings in at the other is background only. Shifting makes few images look like
# more: a simple kind of data augmentation. The learning rate falls from 0.03 to
# 0 in a straight line.
#
# `train_both` moves the two networks in step: one update each per mini-batch,
# and both losses are recorded. It also records two things that usually stay
# hidden: how many ReLUs decided differently, one letting a value pass that the
# other stopped; and the weights of both convolutions before each step, from
# which we shall trace which feature maps went dark.


# %%
def batches(images, chosen, *, epochs=12, size=32, rate=0.03):
    rng = np.random.default_rng(0)
    count = len(chosen) // size
    for epoch in range(epochs):
        mixed = rng.permutation(chosen)
        for i in range(count):
            batch = mixed[i * size : (i + 1) * size]
            x = np.roll(images[batch], rng.integers(-2, 3, 2), (2, 3))
            yield x, labels[batch], rate * (1 - (epoch + i / count) / epochs)


def torch_step(model, optimizer, x, y, rate):
    optimizer.param_groups[0]["lr"] = rate
    logits = model(torch.from_numpy(x))
    loss = nn.functional.cross_entropy(logits, torch.from_numpy(y))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def train_both(dtype):
    ours = NumpyLeNet(start, dtype)
    theirs = LeNet().to(getattr(torch, dtype))
    theirs.load_state_dict(start)
    optimizer = torch.optim.SGD(theirs.parameters(), momentum=0.9)
    passed = []  # 〔torch 的 ReLU 放行了哪些值｜what the ReLUs of torch let pass〕
    theirs.activation.register_forward_hook(
        lambda layer, x, y: passed.append(y.detach().numpy() > 0)
    )
    losses, flips, history = [], [], [ours.convolutions()]
    for x, y, rate in batches(images, train):
        x = x.astype(dtype)
        passed.clear()
        losses.append(
            (ours.step(x, y, rate), torch_step(theirs, optimizer, x, y, rate))
        )
        before = ours.z1, ours.z2, ours.z3, ours.z4
        pairs = zip(before, passed, strict=True)
        flips.append(sum(np.sum((z > 0) != p) for z, p in pairs))
        history.append(ours.convolutions())
    return ours, theirs, np.array(losses), np.array(flips), history


def relative_gap(losses):
    return np.abs(losses[:, 0] / losses[:, 1] - 1)


ours, theirs, losses, flips, history = train_both("float64")
gap = relative_gap(losses)
agreed = int(-np.log10(gap.max()))
decisions = sum(z.size for z in (ours.z1, ours.z2, ours.z3, ours.z4))

print(f"〔步数：｜steps: 〕{len(losses)}")
print(
    f"〔损失的最大相对差：｜largest relative gap of the losses: 〕{gap.max():.0e}"
)
print(f"〔一致的位数，至少：｜digits that agree, at least: 〕{agreed}")
print(f"〔ReLU 的决定：｜ReLU decisions: 〕{decisions * len(losses):,}")
print(f"〔其中不同的：｜of these, different: 〕{flips.sum()}")

assert gap.max() < 1e-9
assert flips.sum() == 0

# %% [markdown] lang="zh"
# ## 两条曲线 {#curves}
#
# 把两条损失曲线画在一起，只会看到一条线。所以右边画它们的差：到这一步为止最大的相对差，纵轴取对数。

# %% [markdown] lang="en"
# ## Two curves {#curves}
#
# Drawn together, the two loss curves look like one line. So the panel on the
# right shows their difference: the largest relative gap up to each step, on a
# logarithmic axis.

# %%
some = slice(None, None, 6)  # 〔每六步取一点｜every sixth step〕
steps = np.arange(len(losses))


def show_gap(ax, losses, **more):
    gap = np.maximum.accumulate(relative_gap(losses))
    ax.plot(steps[some], gap[some], **more)
    ax.set(yscale="log", ylim=(1e-17, 1e3), xlabel="〔步｜step〕")
    ax.set_yticks([1e-16, 1e-12, 1e-8, 1e-4, 1])
    ax.set_title("〔最大相对差｜largest relative gap〕")
    ax.grid(axis="y")


fig, (left, right) = plt.subplots(1, 2, figsize=(6.4, 2.7))
fig.suptitle(
    "〔双精度：损失重合，差始终很小｜Double precision: one loss, a tiny gap〕"
)
left.plot(steps[some], losses[some, 0], color="C4", label="NumPy")
left.plot(steps[::24], losses[::24, 1], "o", color="C5", label="PyTorch")
left.set(yscale="log", xlabel="〔步｜step〕", title="〔损失｜loss〕")
left.set_yticks([0.01, 0.1, 1], ["0.01", "0.1", "1"])
left.legend()
show_gap(right, losses, color="C5")

# %% [markdown] lang="zh" caption=true
# 左：每个小批量的损失，线是 NumPy，点是 PyTorch。右：两者的相对差，从舍入误差的大小起步，随训练缓慢变大，因为每一步都建立在上一步的误差之上。
#
# 两幅折线图，横轴都是训练的步数，纵轴都取对数。左图的损失从 2 以上抖动着下降，最后大多在 0.1 以下，圆点全部落在线上。右图的差从 10 的负 16 次方附近慢慢升高，始终在 10 的负 9 次方以下。

# %% [markdown] lang="en" caption=true
# Left: the loss on each mini-batch, the line NumPy, the dots PyTorch. Right: the
# relative gap between them. It starts at the size of rounding and slowly grows,
# since each step builds on the errors of the one before.
#
# Two line charts over the steps of training, both with logarithmic vertical
# axes. On the left the loss jitters down from above 2, to mostly below 0.1 at the
# end, and every dot lies on the line. On the right the gap slowly rises from
# about 10 to the minus 16 and stays below 10 to the minus 9.

# %% [markdown] lang="zh"
# ## 换成单精度 {#single-precision}
#
# 同样的代码，同样的批次，只把 `float64` 换成 `float32`，有效数字从大约 16 位减到大约 7 位。

# %% [markdown] lang="en"
# ## In single precision {#single-precision}
#
# The same code and the same mini-batches; only `float64` becomes `float32`, and
# some 16 significant digits become some 7.

# %%
ours32, theirs32, losses32, flips32, _ = train_both("float32")
gap32 = relative_gap(losses32)
first = np.flatnonzero(flips32)[0]
quiet = np.max(gap32[:first], initial=0)

fig, (left, right) = plt.subplots(1, 2, figsize=(6.4, 2.7))
fig.suptitle("〔单精度：两条曲线分开｜Single precision: the curves part〕")
left.plot(steps[some], (losses32[:, 0] - losses32[:, 1])[some], color="C5")
left.set(xlabel="〔步｜step〕")
left.set_title("〔损失之差，NumPy − PyTorch｜loss of NumPy − PyTorch〕")
left.grid(axis="y")
show_gap(right, losses32, color="C5", label="float32")
show_gap(right, losses, color="C5", linestyle="--", label="float64")
right.axvline(first, color="C4", linestyle=":")
right.legend(loc="upper left")

print(
    f"〔ReLU 首次决定不同的一步：｜step of the first ReLU to differ: 〕{first + 1}"
)
print(f"〔在此之前的最大差：｜largest gap before: 〕{quiet:.0e}")
print(f"〔全程的最大差：｜largest gap overall: 〕{gap32.max():.0f}")
share = flips32.mean() / decisions
print(f"〔不同的 ReLU 决定：｜ReLU decisions that differ: 〕{share:.1%}")

assert quiet < 1e-5 < 1e-2 < gap32.max()

# %% [markdown] lang="zh" caption=true
# 左：单精度下两条损失曲线之差。右：最大相对差，实线是单精度，虚线是双精度；竖直的点线标出两边第一次有 ReLU 作出不同决定的一步。
#
# 两幅折线图，横轴都是训练的步数。左图的差起初贴着零，随后上下摆动。右图纵轴取对数：虚线始终在 10 的负 9 次方以下；实线起初在 10 的负 7 次方附近，越过点线之后升高许多个数量级，超过 1。

# %% [markdown] lang="en" caption=true
# Left: the difference of the two losses in single precision. Right: the largest
# relative gap, solid in single precision, dashed in double; the dotted vertical
# line marks the first step at which a ReLU decides differently on the two sides.
#
# Two line charts over the steps of training. On the left the difference first
# stays at zero, then swings up and down. On the right, with a logarithmic
# vertical axis, the dashed line stays below 10 to the minus 9; the solid one is
# near 10 to the minus 7 at first, rises by many orders of magnitude after the
# dotted line, and passes 1.

# %% [markdown] lang="zh"
# 两边的程序都没有错。起初的差只是最后一位上的舍入，可是 ReLU 要作“是或否”的决定：一个离 0 足够近的数，一边算成极小的正数，另一边算成极小的负数，决定就不同了；梯度随之改变一块，这一块比舍入误差大得多。下一步的权重因此不同，又有更多的决定翻转，差距越滚越大。最大池化也一样，它要决定哪个数最大。
#
# 这个解释可以检验。把 ReLU 换成 tanh，把最大池化换成平均池化，网络里就没有“是或否”了。如果解释对，单精度就应当跟得上双精度。比较前 150 步就够了。

# %% [markdown] lang="en"
# Neither program is wrong. At first they differ by rounding in the last place,
# but ReLU decides yes or no: a number close enough to 0 comes out slightly
# positive on one side and slightly negative on the other. Then the decision
# differs, and with it a piece of the gradient, by much more than rounding. So
# the next weights differ, more decisions flip, and the gap snowballs. Max
# pooling behaves the same way: it decides which number is largest.
#
# This explanation can be tested. Replace ReLU by tanh and max pooling by average
# pooling, and no yes or no is left in the network. If the explanation is right,
# single precision should then keep up with double precision. The first 150
# steps will do.


# %%
def gentle_losses(dtype, steps):
    model = LeNet(activation=nn.Tanh, pooling=nn.AvgPool2d)
    model.to(getattr(torch, dtype)).load_state_dict(start)
    optimizer = torch.optim.SGD(model.parameters(), momentum=0.9)
    return [
        torch_step(model, optimizer, x.astype(dtype), y, rate)
        for x, y, rate in islice(batches(images, train), steps)
    ]


steps = 150
sharp = np.stack([losses32[:steps, 1], losses[:steps, 1]], 1)
gentle = np.stack([gentle_losses(t, steps) for t in ("float32", "float64")], 1)
sharp, gentle = relative_gap(sharp).max(), relative_gap(gentle).max()

print(
    "| 〔网络｜Network〕 | 〔单双精度的最大相对差｜Largest gap, single to double〕 |"
)
print("| :-- | --: |")
print(f"| 〔ReLU 与最大池化｜ReLU and max pooling〕 | {sharp:.0e} |")
print(f"| 〔tanh 与平均池化｜tanh and average pooling〕 | {gentle:.0e} |")

assert sharp > 1000 * gentle

# %% [markdown] lang="zh" caption=true
# 同一个网络用单精度和双精度各训练一次（都用 PyTorch），损失的最大相对差。

# %% [markdown] lang="en" caption=true
# The same network trained in single and in double precision, both with PyTorch:
# the largest relative gap of the losses.

# %% [markdown] lang="zh"
# 没有了“是或否”，单精度在这 150 步里一直跟着双精度。所以，要检查两个带 ReLU 的实现是否相同，应当用双精度比较；单精度的曲线过一阵子分开，并不说明哪一边写错了。

# %% [markdown] lang="en"
# Without yes or no, single precision follows double precision through these 150
# steps. So compare two implementations with ReLU in double precision. Curves
# that part after a while in single precision do not mean that either side is
# wrong.

# %% [markdown] lang="zh"
# ## 测试准确率 {#accuracy}
#
# 现在看从未见过的图片。测试集不大，所以表中附上抽样误差：如果换一批同样大小的测试图，成绩大约会在这个范围内浮动。

# %% [markdown] lang="en"
# ## Test accuracy {#accuracy}
#
# Now the images that the networks have never seen. The test set is small, so the
# table adds the sampling error: by about so much the score would move with
# another test set of this size.

# %%
x, x32 = images[test], images[test].astype("float32")
with torch.no_grad():
    scores = {
        ("NumPy", "float64"): ours.forward(x),
        ("PyTorch", "float64"): theirs(torch.from_numpy(x)).numpy(),
        ("NumPy", "float32"): ours32.forward(x32),
        ("PyTorch", "float32"): theirs32(torch.from_numpy(x32)).numpy(),
    }
LIBRARIES = "NumPy", "PyTorch"
head = "〔程序｜Code〕", "〔类型｜Type〕", "〔认对｜Right〕"
head += "〔准确率｜Accuracy〕", "〔抽样误差｜Sampling error〕"
print("|", " | ".join(head), "|")
print("| :-- | :-- | --: | --: | --: |")
predictions = {}
for (library, dtype), logits in scores.items():
    predictions[library, dtype] = logits.argmax(1)
    right = predictions[library, dtype] == labels[test]
    error = right.std() / len(test) ** 0.5
    row = f"{right.sum()} / {len(test)} | {right.mean():.1%} | ± {error:.1%}"
    print(f"| {library} | {dtype} | {row} |")

predicted = predictions["NumPy", "float64"]
assert np.array_equal(predicted, predictions["PyTorch", "float64"])
rights = [np.mean(predictions[n, "float32"] == labels[test]) for n in LIBRARIES]
assert abs(rights[0] - rights[1]) < error
assert np.mean(predicted == labels[test]) > 0.97

# %% [markdown] lang="zh" caption=true
# 四次训练在测试图上的成绩。

# %% [markdown] lang="en" caption=true
# How the four trained networks do on the test images.

# %% [markdown] lang="zh"
# 双精度的两个网络对每一张测试图的回答都相同。单精度的两条损失曲线虽然分开了，两个网络的成绩仍在抽样误差之内：它们得到了不同的权重，认字的能力却相当。

# %% [markdown] lang="en"
# In double precision the two networks give the same answer to every test image.
# In single precision the loss curves parted, and yet the two scores differ by
# less than the sampling error: the weights are different, the ability to read
# is about the same.

# %% [markdown] lang="zh"
# ## 第一层学到了什么 {#filters}
#
# 笔记说卷积提取特征。手工的边缘核就是一种特征提取器：沿一个方向求差，沿另一个方向求平均。把横向和纵向两个边缘核按比例相加，就得到任意角度的边缘核。那么，学出来的 5×5 卷积核有几分像边缘核？
#
# 衡量的办法：在所有角度中找最像的一个，看它占卷积核“能量”（各数平方之和）的几成。一个纯粹随机的核也能碰上一点：25 个维度里占 2 个，平均 8%。

# %% [markdown] lang="en"
# ## What the first layer learned {#filters}
#
# The notes say that convolution extracts features. Hand-made edge kernels are
# such extractors: they take a difference in one direction and an average in the
# other. Mix the horizontal and the vertical one, and you get edges at any angle.
# So how much of an edge kernel is in the 5×5 kernels that were learned?
#
# The measure: of all angles take the one that fits best, and see what share it
# has of the kernel's energy, the sum of its squares. Even a random kernel hits
# it a little: 2 of 25 dimensions, 8% on average.

# %%
smooth, slope = np.array([1, 4, 6, 4, 1]), np.array([-1, -2, 0, 2, 1])
edges = np.stack([np.outer(smooth, slope), np.outer(slope, smooth)])
edges = edges / np.linalg.norm(edges, axis=(1, 2), keepdims=True)


def nearest_edge(kernels):
    """〔投影到两个边缘核上｜Project onto the two edge kernels〕"""
    return np.einsum("nij,eij,ekl->nkl", kernels, edges, edges)


def edge_share(kernels):
    edge = nearest_edge(kernels)
    return np.sum(edge**2, axis=(1, 2)) / np.sum(kernels**2, axis=(1, 2))


random = start["conv1.weight"][:, 0].double().numpy()
learned = ours.w["conv1"][:, 0]
before, after = edge_share(random), edge_share(learned)

# 〔负数是灰色：蓝、绿、紫另有含义｜grey for negative: blue, green, purple mean other things〕
signed = LinearSegmentedColormap.from_list(
    "signed", ["#5f6570", "w", "#d55e00"]
)
rows = {
    "〔训练前｜before〕": random,
    "〔训练后｜after〕": learned,
    "〔手工｜by hand〕": nearest_edge(learned),
}
fig, axes = plt.subplots(3, 6, figsize=(6.4, 3.9))
fig.suptitle(
    "〔第一层的 6 个卷积核，与最像的手工边缘核｜The 6 kernels of the first layer, and the nearest hand-made edges〕"
)
for row, (name, kernels) in zip(axes, rows.items(), strict=True):
    for number, (ax, kernel) in enumerate(zip(row, kernels, strict=True), 1):
        bound = np.abs(kernel).max()
        picture(ax, kernel, "C1", cmap=signed, vmin=-bound, vmax=bound)
        ax.set_title(f"{name} {number}", fontsize=9)
for row, shares in zip(axes, (before, after), strict=False):
    for ax, share in zip(row, shares, strict=True):
        ax.set_xlabel(f"{share:.0%}", fontsize=9)

print("〔边缘成分的平均占比｜Mean share of edges〕")
print(f"〔训练前：｜before training: 〕{before.mean():.0%}")
print(f"〔训练后：｜after training: 〕{after.mean():.0%}")
print(f"〔随机核的期望：｜expected of random kernels: 〕{2 / 25:.0%}")

assert after.mean() > 2 * before.mean()
assert after[[0, 5]].min() > 0.3
assert after.max() < 0.5
assert after[1] < 0.05
assert learned[2].clip(0).sum() > 2 * (-learned[2]).clip(0).sum()
pairs = zip(random, learned, strict=True)
kept = [np.corrcoef(a.flat, b.flat)[0, 1] for a, b in pairs]
assert min(kept[:2] + kept[3:]) > 0.6 > 0.4 > kept[2]

# %% [markdown] lang="zh" caption=true
# 上：训练前的随机核。中：训练后的同一批核。下：与训练后最像的手工边缘核。橙色为正，灰色为负，白色为零；百分数是边缘成分占的能量。
#
# 三行，每行六个 5×5 的彩色方格图。上行看不出规律；中行保留了上行的许多格子，第 1 个和第 6 个一侧为橙、一侧为灰，第 3 个大半为橙；下行是平滑的边缘图案，一侧橙、一侧灰，方向各不相同。

# %% [markdown] lang="en" caption=true
# Top: the random kernels before training. Middle: the same kernels after it.
# Bottom: the hand-made edge kernels nearest to the trained ones. Orange is
# positive, grey negative, white zero; the percentage is the edge's share of the
# energy.
#
# Three rows of six coloured 5×5 grids. The top row shows no pattern. The middle
# row keeps many cells of the top one; its kernels 1 and 6 are orange on one side
# and grey on the other, kernel 3 is mostly orange. The bottom row holds smooth
# edges, orange on one side and grey on the other, in various directions.

# %% [markdown] lang="zh"
# 训练以后，边缘成分的平均占比增加到原来的两倍以上，而且没有人要求网络去找边缘。占比最高的是第 1 个和第 6 个核，但也不到一半，其余的能量是别的图案。
#
# 另外四个核各有不同。第 2 个几乎没有边缘成分；第 3 个以正数为主，更像是在问“这里有没有墨”，它也是变化最大的一个。其余五个与各自的随机初值仍然明显相关（相关系数大于 0.6）：训练改动了它们，但没有完全改写。

# %% [markdown] lang="en"
# Training more than doubles the mean share of edges, though nobody asked the
# network to look for them. Kernels 1 and 6 have the largest share, but even there
# it is below half: the rest of the energy belongs to other patterns.
#
# The other four differ. Kernel 2 has hardly any edge in it. In kernel 3 positive
# numbers prevail: it rather asks whether there is ink at all, and it has changed
# most. The other five are still clearly correlated with their random start (by more
# than 0.6): training changed them, but did not rewrite them.

# %% [markdown] lang="zh"
# ## 一个数字，逐层看 {#feature-maps}
#
# 每一层的输出仍是一组小图：哪里亮，就表示这一层要找的东西在哪里出现。这就是特征图，是输入在空间上的一种表示。下面取测试集里第一个认对的 3。

# %% [markdown] lang="en"
# ## One digit, layer by layer {#feature-maps}
#
# What a layer puts out is again a set of small images: where one is bright, what
# the layer looks for is there. That is a feature map, a representation of the
# input over space. Here is the first 3 of the test set that was read rightly.

# %%
shown = test[(predicted == 3) & (labels[test] == 3)][0]
ours.forward(images[[shown]])


def mosaic(maps, columns):
    """〔把一层的图拼成一张，留出空隙｜Join the maps of a layer, with gaps between〕"""
    maps = np.pad((maps / maps.max()).round(2), ((0, 0), (1, 1), (1, 1)))
    maps[:, [0, -1]] = maps[:, :, [0, -1]] = np.nan
    rows = maps.reshape(-1, columns, *maps.shape[1:])
    return np.vstack([np.hstack(row) for row in rows])


panels = {
    "〔卷积 1 与 ReLU｜convolution 1, ReLU〕\n6 × 28 × 28": (ours.a1, 3),
    "〔最大池化 1｜max pooling 1〕\n6 × 14 × 14": (ours.m1, 3),
    "〔卷积 2 与 ReLU｜convolution 2, ReLU〕\n16 × 10 × 10": (ours.a2, 4),
    "〔最大池化 2｜max pooling 2〕\n16 × 5 × 5": (ours.m2, 4),
}
fig, axes = plt.subplots(2, 2, figsize=(6.4, 6.2), height_ratios=(2, 3))
fig.suptitle(
    "〔一个 3 的特征图，从第一次卷积到第二次池化｜Feature maps of a 3, from the first convolution to the second pooling〕"
)
for ax, (name, (maps, columns)) in zip(axes.flat, panels.items(), strict=True):
    picture(ax, mosaic(maps[0], columns), "C2", vmin=0, vmax=1)
    ax.set_title(name)

# 〔空白的图，边上和中间也不一样｜even a blank image: the rim is not the middle〕
ours.forward(np.full((1, 1, 28, 28), images.min()))
rim, middle = ours.a1[0, :, -1, 14], ours.a1[0, :, 14, 14]
assert np.abs(rim - middle).max() > 1

# %% [markdown] lang="zh" caption=true
# 绿框里是一层的全部特征图，各层自有一个亮度刻度：黑是零，白是这一层的最大值。
#
# 四幅拼图。卷积 1 有六张图，都看得出是 3，有的亮在横笔的边上，有的亮在整个笔画上，有的亮在背景上，有几张四周带一圈亮边或暗边。池化 1 是同样的六张，小一半。卷积 2 有十六张很粗的图，认不出字形，其中几张全黑。池化 2 是同样的十六张，每张只剩 25 个格子。

# %% [markdown] lang="en" caption=true
# Each green frame holds all feature maps of a layer. Each layer has its own
# scale: black is zero, white the layer's largest value.
#
# Four mosaics. Convolution 1 has six maps in which the 3 can be recognized: some
# are bright along the edges of its horizontal strokes, some all over the stroke,
# some in the background, and several have a bright or dark rim. Pooling 1 has
# the same six at half the size. Convolution 2 has sixteen very coarse maps
# without a legible shape, some of them black. Pooling 2 has the same sixteen
# with 25 cells each.

# %% [markdown] lang="zh"
# 第一层的图还看得出是 3；池化把它们缩小一半，形状还在；到了第二层，图已经很粗，人眼认不出是什么字。
#
# 第一层有些图的四周有一圈边：填充补的是 0，而背景减去平均值以后小于 0，于是凭空多出一道边缘。代码里的断言查过，输入一张空白的图，这圈边也在。
#
# ## 熄灭的特征图 {#dark-maps}
#
# 第二层有几张图全黑。它们只是对这个 3 没有响应，还是对所有图都没有？从什么时候开始的？`train_both` 记下了每一步的权重，所以可以回头去查：每一轮训练之后，第二层的每张特征图能被多少张训练图片点亮，也就是至少有一处大于 0。

# %% [markdown] lang="en"
# In the first layer the 3 can still be seen. Pooling halves the maps, and the
# shape remains. In the second layer they are so coarse that nobody could read
# them.
#
# Some maps of the first layer have a rim: padding adds zeros, but the background
# is below zero once the mean has been subtracted, so an edge appears out of
# nothing. The assertion in the code checks that even a blank image has it.
#
# ## Maps that go dark {#dark-maps}
#
# Some maps of the second layer are black. Do they merely have no response to
# this 3, or to no image at all? And since when? `train_both` recorded the
# weights of each step, so we can look back: after each epoch, how many training
# images light up each map of the second layer, that is, make it positive
# somewhere?


# %%
def lit(first, second):
    """〔每张图能被多少张训练图片点亮｜Count the training images that light each map〕"""
    maps = max_pool2d(relu(conv2d(images[train], *first, padding=2)), 2)
    return np.sum(conv2d(maps, *second).max((2, 3)) > 0, 0)


ends = history[:: len(train) // 32]
counts = np.array([lit(*state) for state in ends])  # (13, 16)

fig, ax = plt.subplots(figsize=(3.2, 4.2))
fig.suptitle("〔点亮每张特征图的图片数｜Images that light each map〕")
shares = np.where(counts, 0.25 + 0.75 * counts / len(train), 0).round(2)
picture(ax, shares.T, "C2", vmin=0, vmax=1)
ax.set(xlabel="〔轮｜epoch〕", ylabel="〔第二层的图｜map of layer 2〕")
ax.set(xticks=range(0, 13, 3), yticks=range(16))
for epoch, number in np.argwhere((counts > 0) & (counts < 10)):
    few = counts[epoch, number]
    ax.text(epoch, number, few, color="w", size=9, ha="center", va="center")

dark = counts == 0
assert not dark[0].any()
assert (dark.any(0).sum(), dark[-1].sum()) == (5, 3)

# %% [markdown] lang="zh" caption=true
# 每行是第二层的一张特征图，每列是一轮训练之后的状态。越白，点亮它的训练图片越多；纯黑表示一张也没有；不到十张时写出张数。
#
# 十六行十三列的方格图，第 0 列是训练之前，没有纯黑的格子。大多数行自始至终接近白色。第 3、4、15 行中途变黑，直到最后。第 0 行和第 6 行变黑之后又变成深灰，格子里写着很小的张数，第 6 行随后逐渐变亮一些。

# %% [markdown] lang="en" caption=true
# Each row is a map of the second layer, each column the state after an epoch.
# The whiter, the more training images light it up; pure black means none; where
# it is fewer than ten, the number is written.
#
# A grid of sixteen rows and thirteen columns. Column 0, before training, has no
# pure black. Most rows are nearly white throughout. Rows 3, 4 and 15 turn black
# and stay so. Rows 0 and 6 turn black and later dark grey again, with very small
# numbers written in them; row 6 then gets a little brighter.

# %% [markdown] lang="zh"
# 训练之前，每张图都有图片点亮。后来有五张熄灭过：三张直到最后都是黑的；两张又亮了起来，起初都只有一张图片能点亮，第 0 张到最后也只有一张。
#
# 失活的 ReLU 广为人知，通常的说法是它不会再醒来：没有输出，就没有梯度，也就没有变化（见 CS231n 讲义）。那么，是什么让这两张图重新亮起？熄灭期间，它们自己的权重收不到梯度。但下面的第一层还在学习，是其余亮着的图在推动它；第一层一变，熄灭的图看到的输入也就变了。
#
# 这可以检验。把重新亮起前后两轮的权重拆开，重新组合：一半用旧的，一半用新的。

# %% [markdown] lang="en"
# Before training, every map was lit by some images. Five then went dark. Three
# stayed so to the end; two lit up again, at first by one image only, and map 0 by
# no more than one until the end.
#
# Dead ReLUs are well known, and the usual account is that they do not come back:
# no output, so no gradient, so no change (see the CS231n notes). What, then, lit
# these two up again? While dark, their own weights got no gradient. But the
# first layer below them went on learning, driven by the maps that were still
# lit; and as it changed, so did the input that the dark maps see.
#
# This can be tested. Take the weights before and after a map lit up again, and
# recombine them: one half old, one half new.

# %%
print(
    "| 〔图｜Map〕 | 〔第一层的权重｜First layer's weights〕 | 〔自己的权重｜Its own weights〕 | 〔点亮它的图片｜Images that light it〕 |"
)
print("| --: | :-- | :-- | --: |")
woke = np.argwhere(dark[:-1] & ~dark[1:])
for epoch, number in woke:
    found = []
    for below, own in ((0, 0), (0, 1), (1, 0), (1, 1)):
        images_lit = counts[epoch + below]
        if below != own:
            images_lit = lit(ends[epoch + below][0], ends[epoch + own][1])
        found.append(images_lit[number])
        words = " | ".join(
            f"〔第 {epoch + n} 轮之后｜after epoch {epoch + n}〕"
            for n in (below, own)
        )
        print(f"| {number} | {words} | {found[-1]} |")
    assert found[0] == found[1] == 0 < min(found[2:])
assert len(woke) == 2

# %% [markdown] lang="zh" caption=true
# 重新亮起的两张图：换上新的第一层，旧的自身权重也会亮；只换新的自身权重，仍然是黑的。

# %% [markdown] lang="en" caption=true
# The two maps that lit up again: with the new first layer even their old weights
# light up; with new weights of their own alone they stay dark.

# %% [markdown] lang="zh"
# 所以，是第一层的变化唤醒了它们。“失活的 ReLU 不会再醒”的说法，前提是它的输入不再变化；对紧接着图片的第一层是这样，对上面的层不一定。这里三张图没有醒，它们的参数到训练结束都没有用处。

# %% [markdown] lang="en"
# So it was the change of the first layer that woke them. That a dead ReLU stays
# dead presupposes that its input stays as it is; this is so for a layer that
# sees the images themselves, but need not be so for layers above. Here three
# maps did not wake, and their parameters were of no use by the end of training.

# %% [markdown] lang="zh"
# ## 认错的字 {#mistakes}
#
# 测试集里有几张图认错了，这里全部列出。

# %% [markdown] lang="en"
# ## The digits it gets wrong {#mistakes}
#
# Here are all the test images that were read wrongly.

# %%
wrong = test[predicted != labels[test]]
probabilities = softmax(ours.forward(images[wrong]))

fig, axes = plt.subplots(1, len(wrong), figsize=(6.4, 2.4), squeeze=False)
fig.suptitle("〔认错的测试图｜The test images that were read wrongly〕")
for ax, index, p in zip(axes.flat, wrong, probabilities, strict=True):
    picture(ax, large[index, 0].round(1), "C0")
    ax.set_title(f"〔真值｜true〕 {labels[index]}")
    ax.set_xlabel(f"〔判为｜says〕 {p.argmax()} ({p.max():.0%})")

assert probabilities.max() > 0.9

# %% [markdown] lang="zh" caption=true
# 图上方是真值，下方是网络的回答和它给这个回答的概率。
#
# 一行灰度的手写数字，有的不容易辨认。每张图的真值与网络的回答都写在图的上下。

# %% [markdown] lang="en" caption=true
# Above each image the truth, below it the network's answer and the probability
# that it gives this answer.
#
# A row of grey handwritten digits, some of them hard to make out. The truth and
# the network's answer are written above and below each.

# %% [markdown] lang="zh"
# 注意它的把握：其中有的错答，概率在九成以上。softmax 给出的概率高，不等于答案就对。

# %% [markdown] lang="en"
# Note how sure it is: there are wrong answers with more than 90%. A high
# probability out of softmax does not make an answer right.

# %% [markdown] lang="zh"
# ## 换一批人来写 {#new-writers}
#
# 上面的测试条件偏宽松。scikit-learn 的这 1,797 张图来自 13 个人，打乱以后，同一个人写的字既在训练集里，也在测试集里。文件没有注明谁写了哪张，但相邻的图很可能出自同一人之手（见 scikit-learn 课程的“样本分组”一节）。
#
# 所以再测一次：不打乱，前五分之四用来训练，最后五分之一用来测试，这样测试图的笔迹多半没有见过。其余一切照旧。

# %% [markdown] lang="en"
# ## When other people write {#new-writers}
#
# That test was too easy. The 1,797 images of scikit-learn come from 13
# people, and after shuffling, the same hand is in the training set and in the
# test. The file does not say who wrote which, but images that stand side by side
# are likely to be by the same person (see "Sample grouping" in the scikit-learn
# course).
#
# So here is a second test: without shuffling, the first four fifths train and
# the last fifth tests, so that most hands in the test are probably new.
# Nothing else changes.

# %%
early, late = np.arange(1437), np.arange(1437, 1797)
images = standardize(early)
model = LeNet().double()
model.load_state_dict(start)
optimizer = torch.optim.SGD(model.parameters(), momentum=0.9)
for x, y, rate in batches(images, early):
    torch_step(model, optimizer, x, y, rate)

familiar = np.mean(predicted == labels[test])
logits = model(torch.from_numpy(images[late])).detach().numpy()
strange = np.mean(logits.argmax(1) == labels[late])
print(f"〔打乱后的测试：｜test after shuffling: 〕{familiar:.1%}")
print(f"〔按次序的测试：｜test in the file's order: 〕{strange:.1%}")

rates = np.array([familiar, strange])
error = np.sqrt(np.sum(rates * (1 - rates) / len(test)))
assert familiar - strange > 2 * error

# %% [markdown] lang="zh"
# 同样的网络、同样的训练，成绩却低了，低出的部分超过抽样误差的两倍。所以不要只说“这个网络认手写数字有多准”，要说“在谁写的字上有多准”。一次划分定不出精确的差距。
#
# ## 我们看到了什么 {#summary}
#
# - 手写的前向和反向与 PyTorch 的自动求导相差只有舍入误差；双精度下训练到底，两条损失曲线至少有九位数字相同，测试集上的回答全部相同。
# - 单精度下两条曲线会分开。这不是谁写错了，而是 ReLU 与最大池化把舍入放大了；换成没有这类决定的层，单精度在 150 步内一直跟得上双精度。
# - 学到的第一层，边缘成分平均比随机的核多，但每个核都不到一半。
# - 五张特征图在训练中熄灭过；三张到最后仍是黑的，两张因为第一层继续学习而重新亮起。
# - 97% 以上的准确率，是在同一批人写的字上得到的。
#
# ## 接着试试 {#next}
#
# 1. ReLU 与最大池化，哪一个更容易把单精度的曲线分开？让 `gentle_losses` 只换其中一个，再看那张表。
# 2. 去掉平移（把 `rng.integers(-2, 3, 2)` 换成 `(0, 0)`），两次测试中哪一次的成绩受影响更大？先猜，再运行。
#
# ## 参考文献 {#references}
#
# - Y. LeCun, L. Bottou, Y. Bengio, P. Haffner. [Gradient-based learning applied to document recognition](https://doi.org/10.1109/5.726791). Proceedings of the IEEE 86(11), 1998：LeNet-5 的原文。本实验用的是今天教学中常见的简化形式，见 [LeNet](../networks/lenet.md)。
# - E. Alpaydin, C. Kaynak. [Optical Recognition of Handwritten Digits](https://doi.org/10.24432/C50P49). UCI Machine Learning Repository, 1998：数据集。
# - scikit-learn 用户指南：[digits 数据集](https://scikit-learn.org/stable/datasets/toy_dataset.html#digits-dataset)，即上述数据集的测试部分。
# - A. Karpathy 等，[CS231n 讲义，神经网络之一](https://cs231n.github.io/neural-networks-1/)：失活的 ReLU 的通常说法。
# - scikit-learn 课程：[样本分组](https://inria.github.io/scikit-learn-mooc/python_scripts/cross_validation_grouping.html)，用同一个数据集说明打乱与不打乱的差别。

# %% [markdown] lang="en"
# The same network, trained in the same way, does worse, by more than
# twice the sampling error. So do not just say how well a network reads
# handwriting; say whose. One split does not measure the difference exactly.
#
# ## What we saw {#summary}
#
# - Hand-written forward and backward passes differ from PyTorch's automatic
#   differentiation by rounding only. In double precision the two loss curves
#   agree to at least nine digits until the end, and the answers to the test are
#   all the same.
# - In single precision the curves part. Nobody made a mistake: ReLU and max
#   pooling magnify rounding. With layers that do not decide yes or no, single
#   precision kept up with double for 150 steps.
# - The learned first layer has on average a larger share of edges than random
#   kernels, but in none of its kernels as much as half.
# - Five feature maps went dark during training. Three stayed dark to the end;
#   two lit up again because the first layer went on learning.
# - The accuracy of over 97% holds for digits by the same people who wrote the
#   training set.
#
# ## What to try next {#next}
#
# 1. Which of the two does more to part the curves in single precision, ReLU or
#    max pooling? Let `gentle_losses` replace only one of them, and read the
#    table again.
# 2. Without shifts (put `(0, 0)` for `rng.integers(-2, 3, 2)`), which of the two
#    tests suffers more? Guess first, then run it.
#
# ## References {#references}
#
# - Y. LeCun, L. Bottou, Y. Bengio, P. Haffner. [Gradient-based learning applied
#   to document recognition](https://doi.org/10.1109/5.726791). Proceedings of
#   the IEEE 86(11), 1998: the paper on LeNet-5. This lab uses the simpler form
#   that is taught today, see [LeNet](../networks/lenet.md).
# - E. Alpaydin, C. Kaynak. [Optical Recognition of Handwritten
#   Digits](https://doi.org/10.24432/C50P49). UCI Machine Learning Repository,
#   1998: the data.
# - scikit-learn user guide: [the digits
#   dataset](https://scikit-learn.org/stable/datasets/toy_dataset.html#digits-dataset),
#   which is the test part of those data.
# - A. Karpathy and others, [CS231n notes, Neural networks,
#   part 1](https://cs231n.github.io/neural-networks-1/): the usual account of
#   dead ReLUs.
# - scikit-learn course: [Sample
#   grouping](https://inria.github.io/scikit-learn-mooc/python_scripts/cross_validation_grouping.html),
#   on what shuffling hides, with the same data.
