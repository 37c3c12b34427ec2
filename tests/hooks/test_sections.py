from sections import sections

PAGE = """
<h1 id="top">Convolution<a class="headerlink" href="#top">¶</a></h1>
<p>Slide a <em>window</em>.</p>
<div class="block"><div class="highlight"><span class="filename">conv.py</span>
<pre><code>def <span>conv2d</span>(x):
    return total(range(3))
</code></pre></div><div class="output"><pre class="printed">12.5</pre>
<svg><text>label</text></svg><table><tr><td>99</td></tr></table></div></div>
<h2 id="sizes">Size of the <code>output</code></h2>
<ul><li>First</li><li>Second &lt; third</li></ul>
<p>Take <math><mi>q</mi></math>.</p>
<p><math><mi>alone</mi></math></p>
<table><tr><td>a</td><td>b</td></tr></table>
<details class="how"><summary>How</summary><pre>plot(x)</pre></details>
<h3>No anchor</h3>
"""


def test_a_page_is_cut_at_its_headings():
    top, sizes = sections(PAGE)
    assert (top.level, top.anchor, top.title) == (1, "", "Convolution")
    assert (sizes.level, sizes.anchor) == (2, "sizes")
    assert sizes.title == "Size of the output"


def test_only_what_is_read_is_kept():
    top, sizes = sections(PAGE)
    assert top.paragraphs == ["Slide a window."]
    assert sizes.paragraphs == [
        "First",
        "Second &lt; third",
        "Take ….",
        "a b",
        "No anchor",
    ]


def test_of_code_the_names_are_kept():
    top, sizes = sections(PAGE)
    assert list(top.defined) == ["conv2d"]
    assert list(top.called) == ["conv2d", "total"]
    assert list(sizes.called) == ["plot"]


def test_tags_that_are_not_closed_do_no_harm():
    (only,) = sections("<p>One<p>Two<br>lines</div>")
    assert only.paragraphs == ["One", "Twolines"]
