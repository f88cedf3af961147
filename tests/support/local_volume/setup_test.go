// Package proof sets up a local volume with the code of kubelet, and its real mounts.
//
// VOLUME is a PersistentVolume as JSON. The test prints whether the set-up succeeded, and the mount that a pod gets.
package proof

import (
	"encoding/json"
	"fmt"
	"os"
	"testing"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	"k8s.io/kubernetes/pkg/volume"
	"k8s.io/kubernetes/pkg/volume/local"
	volumetest "k8s.io/kubernetes/pkg/volume/testing"
	"k8s.io/kubernetes/pkg/volume/util/hostutil"
	"k8s.io/mount-utils"
)

type both interface {
	volume.VolumeHost
	volume.KubeletVolumeHost
}

type host struct{ both }

func (host) GetMounter() mount.Interface     { return mount.New("") }
func (host) GetHostUtil() hostutil.HostUtils { return hostutil.NewHostUtil() }
func (host) GetEventRecorder() record.EventRecorder {
	return record.NewFakeRecorder(10)
}

func TestSetUp(t *testing.T) {
	var pv v1.PersistentVolume
	if err := json.Unmarshal([]byte(os.Getenv("VOLUME")), &pv); err != nil {
		t.Fatal(err)
	}
	plugin := local.ProbeVolumePlugins()[0]
	fake := volumetest.NewFakeKubeletVolumeHost(t, os.Getenv("KUBELET"), nil, nil)
	if err := plugin.Init(host{fake}); err != nil {
		t.Fatal(err)
	}
	pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{UID: types.UID("pod"), Name: "x", Namespace: "vision"}}
	spec := volume.NewSpecFromPersistentVolume(&pv, os.Getenv("READ_ONLY") == "true")
	mounter, err := plugin.NewMounter(spec, pod)
	if err != nil {
		t.Fatal(err)
	}
	group := int64(4242)
	err = mounter.SetUp(volume.MounterArgs{FsGroup: &group, Recorder: record.NewFakeRecorder(10)})
	fmt.Printf("PATH %s\n", mounter.GetPath())
	fmt.Printf("ERROR %v\n", err)
}
