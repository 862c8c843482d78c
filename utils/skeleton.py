"""Names, orders, flips and part tables: data only (docs/method.md sections 2.4 to 2.6; paper figure 3)."""

from __future__ import annotations

NUM_JOINTS = 24  # of SMPL; each has its part crop
NUM_PARTS = 24  # of DensePose; IUV maps have one channel more, the background
NUM_OPENPOSE = 25
NUM_GT_JOINTS = 24  # annotated joints
NUM_KEYPOINTS = NUM_OPENPOSE + NUM_GT_JOINTS  # of a body, in this order
NUM_LSP_JOINTS = 14  # the first of the annotated ones

SMPL_JOINT_NAMES = (
    "pelvis left_hip right_hip spine1 left_knee right_knee spine2 left_ankle right_ankle spine3 left_foot "
    "right_foot neck left_collar right_collar head left_shoulder right_shoulder left_elbow right_elbow "
    "left_wrist right_wrist left_hand right_hand"
).split()

# SMPL kinematic tree, root first; -1 = no parent.
SMPL_PARENTS = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21)

OPENPOSE25_NAMES = (
    "nose neck right_shoulder right_elbow right_wrist left_shoulder left_elbow left_wrist mid_hip right_hip "
    "right_knee right_ankle left_hip left_knee left_ankle right_eye left_eye right_ear left_ear left_big_toe "
    "left_small_toe left_heel right_big_toe right_small_toe right_heel"
).split()

GT24_NAMES = (
    "right_ankle right_knee right_hip left_hip left_knee left_ankle right_wrist right_elbow right_shoulder "
    "left_shoulder left_elbow left_wrist neck_lsp head_top_lsp pelvis_mpii thorax_mpii spine_h36m jaw_h36m "
    "head_h36m nose left_eye right_eye left_ear right_ear"
).split()

# The 49 joints of a body: 25 OpenPose points (prefix "op_"), then the 24 "ground truth" points.
JOINT_NAMES = tuple(["op_" + n for n in OPENPOSE25_NAMES] + GT24_NAMES)

# 54 candidates = 24 SMPL joints + 21 points on the surface + 9 regressed points; JOINT49_FROM_54 gathers the 49.
VERTEX_JOINT_NAMES = tuple(
    "nose right_eye left_eye right_ear left_ear left_big_toe left_small_toe left_heel right_big_toe right_small_toe "
    "right_heel left_thumb left_index left_middle left_ring left_pinky right_thumb right_index right_middle "
    "right_ring right_pinky".split()
)
# Vertices of the official SMPL mesh behind VERTEX_JOINT_NAMES.
SMPL_VERTEX_JOINT_IDS = (
    332, 6260, 2800, 4071, 583, 3216, 3226, 3387, 6617, 6624, 6787,
    2746, 2319, 2445, 2556, 2673, 6191, 5782, 5905, 6016, 6133,
)  # fmt: skip
EXTRA_JOINT_NAMES = tuple(
    "right_hip_lsp left_hip_lsp neck_lsp head_top_lsp pelvis_mpii thorax_mpii spine_h36m jaw_h36m head_h36m".split()
)
JOINT49_FROM_54 = (
    24, 12, 17, 19, 21, 16, 18, 20, 0, 2, 5, 8, 1, 4, 7, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34,
    8, 5, 45, 46, 4, 7, 21, 19, 17, 16, 18, 20, 47, 48, 49, 50, 51, 52, 53, 24, 26, 25, 28, 27,
)  # fmt: skip

H36M17_NAMES = tuple(
    "pelvis left_hip left_knee left_ankle right_hip right_knee right_ankle spine neck jaw head_top left_shoulder "
    "left_elbow left_wrist right_shoulder right_elbow right_wrist".split()
)
# Rows of the 24 annotated joints that H36M's 17 and MPII's 16 joints stand for, in the order of those sets.
H36M17_IN_GT24 = (14, 3, 4, 5, 2, 1, 0, 16, 12, 17, 18, 9, 10, 11, 8, 7, 6)
MPII16_IN_GT24 = (0, 1, 2, 3, 4, 5, 14, 15, 12, 13, 6, 7, 8, 9, 10, 11)
H36M_TO_J17 = (6, 5, 4, 1, 2, 3, 16, 15, 14, 11, 12, 13, 8, 10, 0, 7, 9)
H36M_TO_J14 = H36M_TO_J17[:14]
GT24_TO_J17 = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 18, 14, 16, 17)
GT24_TO_J14 = GT24_TO_J17[:14]
NUM_COCO = 17
GT24_TO_COCO17 = (19, 20, 21, 22, 23, 9, 8, 10, 7, 11, 6, 3, 2, 4, 1, 5, 0)
# The 12 joints of the limbs, shoulders to wrists and hips to ankles: among COCO's 17 and among SMPL's joints.
COCO17_LIMBS = (5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16)
SMPL_LIMBS = (16, 17, 18, 19, 20, 21, 1, 2, 4, 5, 7, 8)
NUM_BLAZEPOSE = 33
BLAZEPOSE_TO_COCO17 = (0, 2, 5, 7, 8, 11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28)

SMPL_FLIP = (0, 2, 1, 3, 5, 4, 6, 8, 7, 9, 11, 10, 12, 14, 13, 15, 17, 16, 19, 18, 21, 20, 23, 22)
GT24_FLIP = (5, 4, 3, 2, 1, 0, 11, 10, 9, 8, 7, 6, 12, 13, 14, 15, 16, 17, 18, 19, 21, 20, 23, 22)
OPENPOSE25_FLIP = (0, 1, 5, 6, 7, 2, 3, 4, 8, 12, 13, 14, 9, 10, 11, 16, 15, 18, 17, 22, 23, 24, 19, 20, 21)
JOINT49_FLIP = OPENPOSE25_FLIP + tuple(NUM_OPENPOSE + j for j in GT24_FLIP)

# Neighbours that set the size of a joint's crop; the root is its own parent, a leaf its own child.
PART_PARENT = (0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21)
PART_CHILD = (3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 10, 11, 15, 16, 17, 15, 18, 19, 20, 21, 22, 23, 22, 23)


def _per_joint(table: dict[tuple[int, ...], tuple[int, ...]]) -> tuple[tuple[int, ...], ...]:
    flat = {joint: parts for joints, parts in table.items() for joint in joints}
    return tuple(flat[joint] for joint in range(NUM_JOINTS))


# DensePose parts whose presence at the centre makes a joint visible.
PART_VISIBILITY = _per_joint({
    (0, 3, 6, 9): (1, 2), (1,): (8, 10), (2,): (7, 9), (4,): (8, 10, 12, 14), (5,): (7, 9, 11, 13),
    (7, 10): (12, 14, 5), (8, 11): (11, 13, 6), (12,): (1, 2, 23, 24), (13, 16): (15, 17), (14, 17): (16, 18),
    (15,): (23, 24), (18,): (15, 17, 19, 21), (19,): (16, 18, 20, 22), (20, 22): (19, 21, 4), (21, 23): (20, 22, 3),
})  # fmt: skip

# Six DensePose parts seen by a joint's crop; order and duplicates are part of the weights' meaning.
PART_CHANNELS = _per_joint({
    (0, 3, 6, 9): (7, 8, 9, 10, 1, 2), (1, 4): (1, 2, 8, 10, 12, 14), (2, 5): (1, 2, 7, 9, 11, 13),
    (7, 10): (8, 10, 12, 14, 5, 5), (8, 11): (7, 9, 11, 13, 6, 6), (12, 15): (1, 2, 23, 24, 23, 24),
    (13, 16, 18): (1, 2, 15, 17, 19, 21), (14, 17, 19): (1, 2, 16, 18, 20, 22),
    (20, 22): (15, 17, 19, 21, 4, 4), (21, 23): (16, 18, 20, 22, 3, 3),
})  # fmt: skip

# The 15 annotation classes of DensePose-COCO from the 25 index channels.
ANN_CLASSES = ((0,), (1, 2), (3,), (4,), (5,), (6,), (7, 9), (8, 10), (11, 13), (12, 14), (15, 17), (16, 18),
               (19, 21), (20, 22), (23, 24))  # fmt: skip

# Graph of the refinement (docs/method.md 4.1): the tree, and the links added to it.
TREE_EDGES = tuple((SMPL_PARENTS[child], child) for child in range(1, 24))
EXTRA_EDGES = (
    (12, 17), (12, 16),
    (0, 4), (0, 5), (0, 6), (2, 8), (1, 7), (5, 11), (4, 10), (3, 9), (6, 12), (9, 15), (6, 13), (9, 16),
    (13, 18), (16, 20), (18, 22), (6, 14), (9, 17), (14, 19), (17, 21), (19, 23),
    (1, 2), (1, 3), (2, 3), (13, 14), (12, 13), (12, 14),
)  # fmt: skip
