import {
  joined,
  ours,
  ref,
  zone,
  type Outputs,
  type Resource,
  type Resources,
} from "./cloudformation.ts";

/** Public subnets, since a NAT gateway costs by the hour; nothing is let in. Gives their names here. */
export function addNetwork(
  zones: number,
  resources: Resources,
  outputs: Outputs,
): readonly string[] {
  const add = (name: string, type: Resource["Type"], properties: Resource["Properties"]) => {
    resources[name] = { Type: type, Properties: properties };
  };
  add("Network", "AWS::EC2::VPC", {
    CidrBlock: "10.64.0.0/16",
    EnableDnsSupport: true,
    EnableDnsHostnames: true,
    Tags: ours,
  });
  add("Gateway", "AWS::EC2::InternetGateway", { Tags: ours });
  const vpc = ref("Network");
  const gateway = ref("Gateway");
  add("GatewayAttachment", "AWS::EC2::VPCGatewayAttachment", {
    VpcId: vpc,
    InternetGatewayId: gateway,
  });
  add("Routes", "AWS::EC2::RouteTable", { VpcId: vpc, Tags: ours });
  const routes = ref("Routes");
  resources["WayOut"] = {
    Type: "AWS::EC2::Route",
    DependsOn: "GatewayAttachment",
    Properties: {
      RouteTableId: routes,
      DestinationCidrBlock: "0.0.0.0/0",
      GatewayId: gateway,
    },
  };
  const subnets = Array.from({ length: zones }, (_, n) => `Subnet${n + 1}`);
  for (const [n, name] of subnets.entries()) {
    add(name, "AWS::EC2::Subnet", {
      VpcId: vpc,
      AvailabilityZone: zone(n),
      // 4,091 machines in each.
      CidrBlock: `10.64.${n * 16}.0/20`,
      MapPublicIpOnLaunch: true,
      Tags: ours,
    });
    add(`${name}Routes`, "AWS::EC2::SubnetRouteTableAssociation", {
      SubnetId: ref(name),
      RouteTableId: routes,
    });
  }
  const group = (name: string, what: string, ports: readonly number[] | null): void =>
    add(name, "AWS::EC2::SecurityGroup", {
      VpcId: vpc,
      GroupDescription: what,
      SecurityGroupEgress: (ports ?? [null]).map((port) => ({
        CidrIp: "0.0.0.0/0",
        Description: port === null ? "Out to anywhere" : `Out to port ${port}`,
        IpProtocol: port === null ? "-1" : "tcp",
        ...(port === null ? {} : { FromPort: port, ToPort: port }),
      })),
      Tags: ours,
    });
  group("MachineGroup", "Machines of jobs: out only", null);
  group("ImageGroup", "Machines that images are made or tried on: out to the web only", [80, 443]);
  outputs["Network"] = { Description: "The network", Value: ref("Network") };
  outputs["Subnets"] = { Description: "Where machines are", Value: joined(subnets.map(ref)) };
  outputs["SecurityGroup"] = { Description: "Machines' group", Value: ref("MachineGroup") };
  outputs["ImageSecurityGroup"] = {
    Description: "The group of machines that images are made on",
    Value: ref("ImageGroup"),
  };
  return subnets;
}
