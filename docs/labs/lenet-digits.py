# %% [markdown] lang="zh"
# # LeNet 认手写数字：算两遍，走同一条路 {#lenet-digits}
#
# 同一个 LeNet，从同样的初始权重出发，按同样的顺序看同样的图片，训练两遍：一遍只用 NumPy，反向传播全部手写；一遍用 PyTorch。结果是两条损失曲线完全重合，测试准确率都在 97% 以上。
#
# 你会依次看到：
#
# - 数据怎样从 8×8 变成 LeNet 要的 28×28；
# - 手写的梯度与自动求导的梯度相差多少；
# - 两条损失曲线重合到第几位数字，以及为什么换成单精度以后它们会分道扬镳；
# - 第一层学到的卷积核与手工的边缘核有几分像；
# - 一个数字逐层变成了怎样的特征图；
# - 网络认错了哪些字，以及换一批人来写，成绩会掉多少。
#
# 卷积本身见[卷积](../concepts/convolution.md)，网络的结构见 [LeNet](../networks/lenet.md)。

# %% [markdown] lang="en"
# # LeNet reads handwritten digits, computed twice {#lenet-digits}
#
# One LeNet is trained twice, from the same initial weights, on the same images
# in the same order: once with NumPy alone and backpropagation written by hand,
# once with PyTorch. The two loss curves lie on each other, and both networks
# read more than 97% of the test digits.
#
# You will see, in this order:
#
# - how 8×8 images become the 28×28 that LeNet expects;
# - how far hand-written gradients are from those of automatic differentiation;
# - to how many digits the two loss curves agree, and why they part company as
#   soon as you compute in single precision;
# - how much the learned kernels of the first layer resemble hand-made edge
#   kernels;
# - which feature maps one digit turns into, layer by layer;
# - which digits the network gets wrong, and how much worse it does when other
#   people hold the pen.
#
# For convolution itself see [Convolution](../concepts/convolution.md), for the
# network's structure [LeNet](../networks/lenet.md).

# %% [markdown] lang="zh"
# ## 准备 {#setup}
#
# 需要的东西都在本机：数字图片随 scikit-learn 一起安装，不必下载任何文件。

# %% [markdown] lang="en"
# ## Preparation {#setup}
#
# Everything is on your machine already: the digits come with scikit-learn, and
# nothing is downloaded.

# %%
from itertools import islice

import matplotlib.pyplot as plt
import numpy as np
import torch
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
# 这是 1990 年代采集的真实手写数字。原图为 32×32 的黑白点阵，切成 4×4 的小块，数出每块有几个黑点，就得到 8×8 的图，每个像素取 0 到 16（Alpaydin 与 Kaynak，1998）。
#
# LeNet 要 28×28 的输入。办法分两步，都不含随机性：先用双线性插值放大到三倍，成为 24×24；再在四周各补 2 个像素的背景。双线性插值可以写成一个矩阵：`stretch` 的每一列说明一个新像素由哪些旧像素、按多大比例混合而成；左乘一次管行，右乘一次管列。最后一行断言把结果与 PyTorch 自带的插值对照。
#
# 放大不会增加信息，只是让 5×5 的卷积核有地方可滑。
#
# 接着打乱次序，取五分之一作测试集，其余用来训练。像素再减去训练集的平均值、除以训练集的标准差。

# %% [markdown] lang="en"
# ## The data: from 8×8 to 28×28 {#data}
#
# These are real digits, collected in the 1990s. Each was a bitmap of 32×32; cut
# into blocks of 4×4, with the dark dots of each block counted, it becomes 8×8
# pixels from 0 to 16 (Alpaydin and Kaynak, 1998).
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
    ax.imshow(image, clip_on=False, **more)
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set(visible=True, color=colour)


fig, axes = plt.subplots(2, 10, figsize=(6.4, 1.9))
fig.suptitle(
    "〔同一批数字：文件里的，和喂给网络的｜The same digits: in the file, and as the network gets them〕"
)
axes[0, 0].set_ylabel("8 × 8")
axes[1, 0].set_ylabel("28 × 28")
for digit, (above, below) in enumerate(axes.T):
    index = train[labels[train] == digit][0]
    picture(above, digits.images[index], "C0")
    picture(below, images[index, 0], "C0")

# %% [markdown] lang="zh" caption=true
# 图。
#
# 图。

# %% [markdown] lang="en" caption=true
# Figure.
#
# Figure.

# %% [markdown] lang="zh"
# ## 手写的网络 {#network}
#
# 前向传播把每一步的输入留下来，因为反向传播要用：卷积要知道它看到了什么，ReLU 要知道哪里是正的，最大池化要知道最大值在哪里。`backward` 把 `forward` 从下往上再走一遍，每一行对应一层。梯度 `dy` 进去，上一层的 `dy` 出来，路过有参数的层，就顺手留下参数的梯度。
#
# `step` 是带动量的随机梯度下降：速度等于旧速度的 0.9 倍加上新梯度，权重逆着速度走一小步。PyTorch 的 `SGD` 用的是同一个式子。

# %% [markdown] lang="en"
# ## The network by hand {#network}
#
# On the way forward each step keeps its input, because the way back needs it: a
# convolution must know what it saw, ReLU where it was positive, max pooling
# where the maximum stood. `backward` walks through `forward` from the bottom to
# the top, one statement a layer. In goes the gradient `dy` of a layer's output,
# out comes that of its input, and layers with parameters leave the gradient of
# those behind.
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
# 训练之前先对一次答案。两个网络拿到相同的权重和相同的 32 张图，各算一次梯度。表中是每组参数上最大的差，除以该组最大的梯度。双精度浮点数大约有 16 位有效数字，所以剩下的差只可能是舍入误差。

# %% [markdown] lang="en"
# ## One step first: the gradients {#gradients}
#
# Before training, compare the answers once. Both networks get the same weights
# and the same 32 images, and each computes its gradients. The table gives, for
# each group of parameters, the largest difference divided by the largest
# gradient. Double precision carries about 16 significant digits, so what is left
# can only be rounding.

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

# %% [markdown] lang="zh"
# ## 一起训练 {#training}
#
# 要让两条曲线可以比较，两边看到的东西必须一模一样。`batches` 把一切随机的决定都做完：每一轮打乱次序，每 32 张图为一个小批量，每个小批量整体平移最多 2 个像素。四周补的背景正好宽 2 个像素，所以 `np.roll` 从一边推出去、从另一边绕回来的只有背景。平移使不多的图显得更多样，这是最简单的数据增强。学习率从 0.03 直线降到 0。
#
# `train_both` 让两个网络并肩走：每个小批量各走一步，记下各自的损失。它还记下一件平时看不到的事：两边的 ReLU 有多少个作出了不同的决定，一边放行而另一边拦下。

# %% [markdown] lang="en"
# ## Training side by side {#training}
#
# Curves can only be compared when both sides see exactly the same. `batches`
# makes all random decisions: it shuffles in each epoch, takes 32 images at a
# time, and shifts each mini-batch as a whole by up to 2 pixels. The added
# background is 2 pixels wide, so what `np.roll` pushes out at one edge and
# brings in at the other is background only. Shifting makes few images look like
# more; it is the simplest data augmentation. The learning rate falls from 0.03
# to 0 in a straight line.
#
# `train_both` lets the two networks walk side by side: one step each per
# mini-batch, and both losses are written down. It also notes something that one
# usually does not see: how many ReLUs decided differently, one letting a value
# pass that the other stopped.


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
    losses, flips = [], []
    for x, y, rate in batches(images, train):
        x = x.astype(dtype)
        passed.clear()
        losses.append(
            (ours.step(x, y, rate), torch_step(theirs, optimizer, x, y, rate))
        )
        before = ours.z1, ours.z2, ours.z3, ours.z4
        pairs = zip(before, passed, strict=True)
        flips.append(sum(np.sum((z > 0) != p) for z, p in pairs))
    return ours, theirs, np.array(losses), np.array(flips)


def relative_gap(losses):
    return np.abs(losses[:, 0] / losses[:, 1] - 1)


ours, theirs, losses, flips = train_both("float64")
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
# 上面两幅画的是每个小批量的损失，右边把最后 30 步放大：宽线是 NumPy，细虚线是 PyTorch。眼睛看不出差别，所以下面一幅画出到这一步为止最大的相对差，纵轴取对数。它从舍入误差的大小起步，随训练慢慢变大，因为每一步都建立在上一步的误差之上。

# %% [markdown] lang="en"
# ## Two curves {#curves}
#
# Above is the loss on each mini-batch, on the right the last 30 steps enlarged:
# the wide line is NumPy, the thin dashed one PyTorch. The eye finds no
# difference, so below we draw the largest relative gap up to each step, on a
# logarithmic axis. It starts at the size of rounding and slowly grows, since
# each step builds on the errors of the one before.


# %%
def show(losses, name, parted=None):
    fig, axes = plt.subplot_mosaic(
        "AAB;CCC", figsize=(6.4, 4.8), height_ratios=(3, 2)
    )
    fig.suptitle(name)
    whole, last, gap = axes.values()
    for ax in (whole, last):
        ax.plot(losses[:, 0], color="C4", lw=4, alpha=0.5, label="NumPy")
        ax.plot(losses[:, 1], "--", color="C5", lw=1.2, label="PyTorch")
        ax.set(yscale="log", xlabel="〔步｜step〕")
    whole.set_ylabel("〔损失｜loss〕")
    whole.set_yticks([0.01, 0.1, 1], ["0.01", "0.1", "1"])
    whole.legend(loc="lower left")
    last.set(xlim=(len(losses) - 31, len(losses)), yticks=[])
    last.minorticks_off()
    last.set_title("〔最后 30 步｜the last 30 steps〕")
    gap.plot(np.maximum.accumulate(relative_gap(losses)), color="C5")
    gap.set(yscale="log", ylim=(1e-17, 1e3), xlabel="〔步｜step〕")
    gap.set_yticks([1e-16, 1e-12, 1e-8, 1e-4, 1])
    gap.yaxis.set_major_formatter("{x:.0e}")
    gap.set_ylabel("〔最大相对差｜largest gap〕")
    gap.grid(axis="y")
    if parted is not None:
        gap.axvline(parted, color="C5", linestyle=":")
        words = "〔第一个 ReLU 决定不同｜the first ReLU decides differently〕"
        gap.text(parted + 6, 1e-14, words)


show(losses, "〔双精度：两条曲线重合｜Double precision: the curves coincide〕")

# %% [markdown] lang="zh" caption=true
# 图。
#
# 图。

# %% [markdown] lang="en" caption=true
# Figure.
#
# Figure.

# %% [markdown] lang="zh"
# ## 换成单精度 {#single-precision}
#
# 同样的代码，同样的批次，只把 `float64` 换成 `float32`，有效数字从大约 16 位减到大约 7 位。

# %% [markdown] lang="en"
# ## In single precision {#single-precision}
#
# The same code and the same mini-batches; only `float64` becomes `float32`, and
# some 16 significant digits become 7.

# %%
ours32, theirs32, losses32, flips32 = train_both("float32")
gap32 = relative_gap(losses32)
first = np.flatnonzero(flips32)[0]
quiet = np.max(gap32[:first], initial=0)

show(
    losses32,
    "〔单精度：两条曲线分开｜Single precision: the curves part〕",
    first,
)

print(
    f"〔ReLU 首次决定不同的一步：｜step of the first ReLU to differ: 〕{first + 1}"
)
print(f"〔在此之前的最大差：｜largest gap before: 〕{quiet:.0e}")
print(f"〔全程的最大差：｜largest gap overall: 〕{gap32.max():.0f}")
share = flips32.mean() / decisions
print(f"〔不同的 ReLU 决定：｜ReLU decisions that differ: 〕{share:.1%}")

assert quiet < 1e-5 < 1e-2 < gap32.max()

# %% [markdown] lang="zh" caption=true
# 图。
#
# 图。

# %% [markdown] lang="en" caption=true
# Figure.
#
# Figure.

# %% [markdown] lang="zh"
# 教科书很少画这张图。两边的程序都没有错：起初的差只是最后一位上的舍入。可是 ReLU 要作“是或否”的决定。一个离 0 足够近的数，一边算成极小的正数，另一边算成极小的负数，决定就不同了；梯度随之改变一小块，这一块比舍入大得多。下一步的权重因此不同，又有更多的决定翻转，差距越滚越大。最大池化也一样，它要决定哪个数最大。
#
# 这个解释可以检验。把 ReLU 换成 tanh，把最大池化换成平均池化，网络里就没有“是或否”了。如果解释对，单精度就应当一直跟得上双精度。比较前 200 步就够了。

# %% [markdown] lang="en"
# Textbooks seldom draw this. Neither program is wrong: at first they differ by
# rounding in the last place. But ReLU decides yes or no. A number close enough
# to 0 comes out slightly positive on one side and slightly negative on the
# other; then the decision differs, and with it a piece of the gradient, by much
# more than rounding. So the next weights differ, more decisions flip, and the
# gap snowballs. Max pooling is no better: it decides which number is largest.
#
# This explanation can be tested. Put tanh for ReLU and average pooling for max
# pooling, and the network has no yes or no left. If the explanation is right,
# single precision should then keep up with double precision. The first 200
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


steps = 200
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

# %% [markdown] lang="zh"
# 没有了决定，单精度就一路跟着双精度。所以，要证明两个带 ReLU 的实现相同，应当用双精度比较；单精度的曲线走着走着就分开，并不说明哪一边写错了。

# %% [markdown] lang="en"
# Without decisions single precision follows double precision all the way. So
# compare two implementations with ReLU in double precision. Curves in single
# precision that part after a while do not tell that one of them is wrong.

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
assert np.mean(predicted == labels[test]) > 0.97

# %% [markdown] lang="zh"
# 双精度的两个网络对每一张测试图的回答都相同。单精度的两条曲线虽然分开了，认字的本领却差不多：它们走到了不同的地方，但都是好地方。

# %% [markdown] lang="en"
# In double precision the two networks give the same answer to every test image.
# In single precision their curves parted, and yet they read about equally well:
# they ended in different places, both of them good.

# %% [markdown] lang="zh"
# ## 第一层学到了什么 {#filters}
#
# 笔记说卷积提取特征。手工的边缘核就是一种特征提取器：一个方向上求差，另一个方向上求平均。把横向和纵向两个边缘核按比例相加，就得到任意角度的边缘核。那么，学出来的 5×5 卷积核有几分像边缘核？
#
# 衡量的办法：在所有角度中找最像的一个，看它占卷积核“能量”（各数平方之和）的几成。一个纯粹随机的核也能碰上一点：25 个维度里占 2 个，平均 8%。
#
# 图中第一行是训练前的随机核，第二行是训练后的，第三行是与第二行最像的手工边缘核。橙色为正，紫色为负。

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
#
# In the figure, the first row holds the random kernels before training, the
# second the same ones after it, the third the hand-made edge kernels that come
# closest to the second. Orange is positive, purple negative.

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

rows = {
    "〔训练前｜before〕": random,
    "〔训练后｜after〕": learned,
    "〔手工边缘核｜hand-made edge〕": nearest_edge(learned),
}
fig, axes = plt.subplots(3, 6, figsize=(6.4, 3.9))
fig.suptitle(
    "〔第一层的 6 个卷积核，与最像的手工边缘核｜The 6 kernels of the first layer, and the nearest hand-made edges〕"
)
for row, (name, kernels) in zip(axes, rows.items(), strict=True):
    row[0].set_ylabel(name)
    for ax, kernel in zip(row, kernels, strict=True):
        bound = np.abs(kernel).max()
        picture(ax, kernel, "C1", cmap="PuOr_r", vmin=-bound, vmax=bound)
for row, shares in zip(axes, (before, after), strict=False):
    for ax, share in zip(row, shares, strict=True):
        ax.set_xlabel(f"{share:.0%}")

print("〔边缘成分的平均占比｜Mean share of edges〕")
print(f"〔训练前：｜before training: 〕{before.mean():.0%}")
print(f"〔训练后：｜after training: 〕{after.mean():.0%}")
print(f"〔随机核的期望：｜expected of random kernels: 〕{2 / 25:.0%}")

assert after.mean() > 2 * before.mean()
assert after[[0, 5]].min() > 0.3
assert after[1] < 0.05
assert learned[2].clip(0).sum() > 2 * (-learned[2]).clip(0).sum()

# %% [markdown] lang="zh" caption=true
# 图。
#
# 图。

# %% [markdown] lang="en" caption=true
# Figure.
#
# Figure.

# %% [markdown] lang="zh"
# 学过以后，边缘的成分成倍增加，可见网络自己找到了人手工设计过的东西。第一个和最后一个核一头正、一头负，看得出是边缘核。
#
# 但也别指望教科书上那样整齐的边缘图案。第二个核几乎没有边缘的成分；第三个核以正数为主，更像是在找“这里有没有墨”；六个核里都还留着初始随机数的痕迹。对这么小的任务，随机的初值已经够用了大半，训练没有理由把它们全抹平。

# %% [markdown] lang="en"
# Training multiplies the share of edges: the network found for itself what
# people had designed by hand. The first kernel and the last, positive on one
# side and negative on the other, are plainly edge kernels.
#
# But do not expect the tidy edge patterns of textbooks. The second kernel has
# hardly any edge in it. In the third the positive numbers prevail: it rather asks
# whether there is ink at all. And in all of them the random numbers of the start still
# show: for a task as small as this they serve well enough, and nothing in the
# training asks for them to be smoothed away.

# %% [markdown] lang="zh"
# ## 一个数字，逐层看 {#feature-maps}
#
# 每一层的输出仍是一张张小图：哪里亮，就表示这一层要找的东西在哪里出现。这就是特征图，是输入在空间上的一种表示。下面取测试集里第一个认对的 3。同层的图共用一个亮度刻度。

# %% [markdown] lang="en"
# ## One digit, layer by layer {#feature-maps}
#
# What a layer puts out is again a set of small images: where one is bright, what
# the layer looks for is there. That is a feature map, a representation of the
# input over space. Here is the first 3 of the test set that was read rightly. The
# maps of one layer share a scale of brightness.

# %%
shown = test[(predicted == 3) & (labels[test] == 3)][0]
ours.forward(images[[shown]])
layers = {
    "〔输入：｜input: 〕1 × 28 × 28": (ours.x, 6),
    "〔卷积 1 与 ReLU：｜convolution 1 and ReLU: 〕6 × 28 × 28": (ours.a1, 6),
    "〔最大池化 1：｜max pooling 1: 〕6 × 14 × 14": (ours.m1, 6),
    "〔卷积 2 与 ReLU：｜convolution 2 and ReLU: 〕16 × 10 × 10": (ours.a2, 8),
    "〔最大池化 2：｜max pooling 2: 〕16 × 5 × 5": (ours.m2, 8),
}
fig = plt.figure(figsize=(6.4, 8.8))
fig.suptitle(
    "〔一个 3 的特征图，从输入到第二次池化｜Feature maps of a 3, from the input to the second pooling〕"
)
parts = fig.subfigures(5, 1, height_ratios=(5, 5, 5, 7.5, 7.5))
for part, (name, (maps, columns)) in zip(parts, layers.items(), strict=True):
    part.suptitle(name, x=0.01, ha="left", fontsize=10)
    rows = -(-len(maps[0]) // columns)
    axes = part.subplots(rows, columns).flatten()
    for ax in axes[len(maps[0]) :]:
        ax.axis("off")
    for ax, image in zip(axes, maps[0], strict=False):
        colour = "C0" if maps is ours.x else "C2"
        picture(ax, image, colour, vmin=maps.min(), vmax=maps.max())


def silent(net, x):
    """〔第二层中对 `x` 全为零的图有几张｜Count maps 2 that are zero all over `x`〕"""
    net.forward(x)
    return np.sum(~net.a2.any((0, 2, 3)))


fresh = NumpyLeNet(start, "float64")
here, anywhere = silent(ours, images[[shown]]), silent(ours, images)
before = silent(fresh, images)
print("| 〔第二层全黑的图｜Maps 2 that stay black〕 | 〔张数｜Count〕 |")
print("| :-- | --: |")
print(f"| 〔对这个 3｜for this 3〕 | {here} |")
print(f"| 〔对任何一张图｜for every image〕 | {anywhere} |")
print(f"| 〔训练以前，对任何一张图｜the same before training〕 | {before} |")

# 〔空白的图，边上和中间也不一样｜even a blank image: the rim is not the middle〕
ours.forward(np.full((1, 1, 28, 28), images.min()))
rim, middle = ours.a1[0, :, -1, 14], ours.a1[0, :, 14, 14]
assert np.abs(rim - middle).max() > 1
assert before == 0 < anywhere

# %% [markdown] lang="zh" caption=true
# 图。
#
# 图。

# %% [markdown] lang="en" caption=true
# Figure.
#
# Figure.

# %% [markdown] lang="zh"
# 第一层的图还看得出是 3：有的只留下横笔的边，有的留下整个笔画，有的反过来，亮的是空白处。池化把它们缩小一半，形状还在。到了第二层，图已经很粗，人眼认不出是什么字了，但每一张只在一两处发亮：它回答的是“这一带有没有我要找的笔画”。
#
# 有两件事教科书上不大提。第一层有些图的四周带着一圈或亮或暗的边：填充补的是 0，而背景减去平均值以后小于 0，于是凭空多出一道边缘。就算输入一张空白的图，这圈边也在。第二层有几张图全黑，而且不只对这个 3：表中数出，有几张对所有图片都是黑的。训练以前它们都还活着，是训练让它们熄了灯；ReLU 不再给它们传回梯度，它们也就醒不过来，白占着参数。

# %% [markdown] lang="en"
# In the first layer one can still see the 3: some maps keep only the edges of
# its horizontal strokes, one keeps all of the stroke, others do the reverse and
# light up where there is none. Pooling halves them, and the shapes remain. In
# the second layer the maps are so coarse that nobody could read them, but each
# is bright in one or two places only: it says whether the stroke that it looks
# for is around there.
#
# Two things are seldom told. Some maps of the first layer have a rim, bright or
# dark: padding adds zeros, but the background is below zero once the mean has
# been subtracted, so an edge appears around the image out of nothing. Even a
# blank image has it. And some maps of the second layer are black, not for this 3 only: the table counts those that
# no image at all lights up. Before training all of them were alive, so it was
# training that put them out. ReLU sends no gradient back to them any more, so
# nothing wakes them, and they occupy their parameters for nothing.

# %% [markdown] lang="zh"
# ## 认错的字 {#mistakes}
#
# 下面是测试集中认错的全部图片。标题是真值，下方是网络的回答和它给这个回答的概率。

# %% [markdown] lang="en"
# ## The digits it gets wrong {#mistakes}
#
# These are all the test images that were read wrongly: above each the truth,
# below it what the network says, and with what probability.

# %%
wrong = test[predicted != labels[test]]
probabilities = softmax(ours.forward(images[wrong]))

columns = 4
rows = -(-len(wrong) // columns)
fig, axes = plt.subplots(
    rows, columns, figsize=(6.4, 0.4 + 2 * rows), squeeze=False
)
fig.suptitle("〔认错的测试图｜The test images that were read wrongly〕")
for ax in axes.flat:
    ax.axis("off")
for ax, index, p in zip(axes.flat, wrong, probabilities, strict=False):
    ax.axis("on")
    picture(ax, images[index, 0], "C0")
    ax.set_title(f"〔真值｜true〕 {labels[index]}")
    ax.set_xlabel(f"〔判为｜says〕 {p.argmax()} ({p.max():.0%})")

assert probabilities.max() > 0.9

# %% [markdown] lang="zh" caption=true
# 图。
#
# 图。

# %% [markdown] lang="en" caption=true
# Figure.
#
# Figure.

# %% [markdown] lang="zh"
# 有几张连人也要想一想。不过注意它的把握：其中有的错答，概率在九成以上。softmax 给出的概率，并不等于答案有多可信。
#
# 混淆表数一数哪个数字被认成了哪个：行是真值，列是回答，对角线上是认对的。

# %% [markdown] lang="en"
# Over some of these a human would hesitate too. But look how sure it is: there
# are wrong answers with more than 90%. A probability out of softmax does not
# tell how far an answer can be trusted.
#
# The confusion table counts which digit was taken for which: rows hold the
# truth, columns the answer, and the diagonal what was read rightly.

# %%
confusion = np.zeros((10, 10), int)
np.add.at(confusion, (labels[test], predicted), 1)

corner = "〔真值＼回答｜truth \\ answer〕"
print(f"| {corner} |", " | ".join(map(str, range(10))), "|")
print("| --: |", " --: |" * 10)
for digit, row in enumerate(confusion):
    print(
        f"| **{digit}** |", " | ".join(str(n) if n else "·" for n in row), "|"
    )

assert confusion.sum() == len(test)
assert confusion.trace() == len(test) - len(wrong)

# %% [markdown] lang="zh"
# ## 换一批人来写 {#new-writers}
#
# 上面的考试有一点偏宽。scikit-learn 的这 1,797 张图来自 13 个人，打乱以后，同一个人写的字既在训练集里，也在测试集里。文件没有注明谁写了哪张，但相邻的图很可能出自同一人之手（见 scikit-learn 课程的“样本分组”一节）。
#
# 所以再考一次：不打乱，前五分之四用来训练，最后五分之一用来测试，这样测试图的笔迹大多没有见过。其余一切照旧。

# %% [markdown] lang="en"
# ## When other people write {#new-writers}
#
# That exam was a little kind. The 1,797 images of scikit-learn come from 13
# people, and after shuffling, the same hand is in the training set and in the
# test. The file does not say who wrote which, but images that stand side by side
# are likely to be by the same person (see "Sample grouping" in the scikit-learn
# course).
#
# So here is a second exam: without shuffling, the first four fifths train and
# the last fifth tests, so that most hands in the test are new. Nothing else
# changes.

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

assert strange < familiar

# %% [markdown] lang="zh"
# 同样的网络、同样的做法，成绩低了一截。所以不要说“这个网络认手写数字有多准”，要说“在谁写的字上有多准”。这里的数目不大，一次划分也说明不了精确的差距，但方向是清楚的。
#
# ## 我们看到了什么 {#summary}
#
# - 手写的前向和反向与 PyTorch 的自动求导相差只有舍入误差；双精度下训练到底，两条损失曲线至少有九位数字相同，测试集上的回答全部相同。
# - 单精度下两条曲线会分开。这不是谁写错了，而是 ReLU 与最大池化把舍入放大了；换成没有这类决定的层，曲线就不分开。
# - 学到的第一层有一部分是边缘核，不是全部。
# - 97% 以上的准确率，是在同一批人写的字上得到的。
#
# ## 接着试试 {#next}
#
# 1. ReLU 与最大池化，哪一个更容易把单精度的曲线分开？让 `gentle_losses` 只换其中一个，再看那张表。
# 2. 去掉平移（把 `rng.integers(-2, 3, 2)` 换成 `(0, 0)`），两场考试中哪一场的成绩受影响更大？先猜，再运行。
#
# ## 参考文献 {#references}
#
# - Y. LeCun, L. Bottou, Y. Bengio, P. Haffner. [Gradient-based learning applied to document recognition](https://doi.org/10.1109/5.726791). Proceedings of the IEEE 86(11), 1998：LeNet-5 的原文。本实验用的是今天教学中常见的简化形式，见 [LeNet](../networks/lenet.md)。
# - E. Alpaydin, C. Kaynak. [Optical Recognition of Handwritten Digits](https://doi.org/10.24432/C50P49). UCI Machine Learning Repository, 1998：数据集。
# - scikit-learn 用户指南：[digits 数据集](https://scikit-learn.org/stable/datasets/toy_dataset.html#digits-dataset)，即上述数据集的测试部分。
# - scikit-learn 课程：[样本分组](https://inria.github.io/scikit-learn-mooc/python_scripts/cross_validation_grouping.html)，用同一个数据集说明打乱与不打乱的差别。

# %% [markdown] lang="en"
# The same network, treated in the same way, does visibly worse. So do not say
# how well a network reads handwriting; say whose handwriting. The numbers are
# small and one split does not measure the difference exactly, but its direction
# is clear.
#
# ## What we saw {#summary}
#
# - Hand-written forward and backward passes differ from PyTorch's automatic
#   differentiation by rounding only. In double precision the two loss curves
#   agree to at least nine digits until the end, and the answers to the test are
#   all the same.
# - In single precision the curves part. Nobody made a mistake: ReLU and max
#   pooling magnify rounding, and with layers that do not decide yes or no the
#   curves stay together.
# - Some of the learned first layer is edge kernels, not all of it.
# - The accuracy of over 97% holds for digits by the same people who wrote the
#   training set.
#
# ## What to try next {#next}
#
# 1. Which of the two does more to part the curves in single precision, ReLU or
#    max pooling? Let `gentle_losses` replace only one of them, and read the
#    table again.
# 2. Without shifts (put `(0, 0)` for `rng.integers(-2, 3, 2)`), which of the two
#    exams suffers more? Guess first, then run it.
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
# - scikit-learn course: [Sample
#   grouping](https://inria.github.io/scikit-learn-mooc/python_scripts/cross_validation_grouping.html),
#   on what shuffling hides, with the same data.
