# %% [markdown] lang="zh"
# # 实验 {#lenet-digits}
# ## 数据 {#data}
# 链接 [卷积](../concepts/convolution.md) 公式 $x^2$
# %% [markdown] lang="en"
# # Lab {#lenet-digits}
# ## Data {#data}
# link [conv](../concepts/convolution.md) formula $x^2$
# %%
import matplotlib.pyplot as plt
fig, ax = plt.subplots()
ax.plot([1, 2], label="〔训练｜train〕")
ax.set_title("〔损失｜loss〕")
ax.legend()
print("〔准确率｜accuracy〕", 0.5)
